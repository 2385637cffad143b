// The keyframes of the next request: dropped, pasted or picked, in an order that can be changed.

import { h, icon, iconButton, picture } from "./element.js";

export const ACCEPTED = "image/jpeg,image/png,image/webp,image/avif,image/heic,image/heif";
const MOST = 32;
const DRAGGED = "application/x-keyframe";

export class Keyframes extends EventTarget {
  /** `[{ file, name, url }]`; `url` shows the file in this page. */
  list = [];
  element = h("div", { class: "keyframes" });
  #picker;
  #strip = h("ol", { class: "strip", "aria-label": "Keyframes, in order" });
  #note = h("p", { class: "remark", role: "alert", hidden: true });
  #say;

  constructor(say) {
    super();
    this.#say = say;
    this.#picker = h("input", {
      type: "file", accept: ACCEPTED, multiple: true, class: "unseen", tabindex: -1, "aria-hidden": "true", id: "picker",
      onchange: () => { this.add(this.#picker.files); this.#picker.value = ""; },
    });
    this.element.append(this.#strip, this.#note, this.#picker);
    this.#receiveDrops();
    addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length) { event.preventDefault(); this.add(event.clipboardData.files); }
    });
    this.#draw();
  }

  /** Takes the files that are pictures. */
  add(files) {
    const pictures = [...files].filter((file) => file.type.startsWith("image/") || /\.(heic|heif|avif)$/i.test(file.name));
    const wanted = [...this.list.map(({ file }) => file), ...pictures];
    this.set(wanted);
    if (pictures.length) this.#say(`${this.list.length} keyframes.`);
    if (pictures.length < files.length) this.note("Only pictures can be keyframes.");
    if (wanted.length > MOST) this.note(`There can be ${MOST} keyframes; ${wanted.length - MOST} were left out.`);
  }

  /** A remark on the keyframes, until they change. */
  note(words) {
    this.#note.textContent = words;
    this.#note.hidden = false;
  }

  set(files) {
    for (const { url } of this.list) URL.revokeObjectURL(url);
    this.list = files.slice(0, MOST).map((file) => ({ file, name: file.name, url: URL.createObjectURL(file) }));
    this.#changed();
  }

  #changed() {
    this.#note.hidden = true;
    this.#draw();
    this.dispatchEvent(new Event("change"));
  }

  /** The keyframe at that place; where there is none, the first slot. */
  #focus(index) {
    const card = this.#strip.children[index];
    (card instanceof HTMLElement ? card : this.#strip.querySelector("button"))?.focus();
  }

  #move(from, to) {
    if (to < 0 || to >= this.list.length || from === to) return;
    this.list.splice(to, 0, ...this.list.splice(from, 1));
    this.#changed();
    this.#focus(to);
    this.#say(`Keyframe moved to place ${to + 1} of ${this.list.length}.`);
  }

  #remove(index) {
    URL.revokeObjectURL(this.list[index].url);
    this.list.splice(index, 1);
    this.#changed();
    this.#focus(Math.min(index, this.list.length - 1));
    this.#say("Keyframe removed.");
  }

  #draw() {
    const cards = this.list.map((_, index) => this.#card(index));
    const missing = ["Start", "End"].slice(this.list.length);
    const slots = missing.map((name) => h("li", {}, this.#slot(name)));
    if (!missing.length && this.list.length < MOST) slots.push(h("li", { class: "more" }, this.#slot("Add")));
    this.#strip.replaceChildren(...cards, ...slots);
  }

  #slot(name) {
    const label = name === "Add" ? "Add another keyframe" : `Choose the ${name.toLowerCase()} keyframe`;
    return h("button", { type: "button", class: "slot", "aria-label": label, onclick: () => this.#picker.click() },
      icon("plus"), h("span", {}, name));
  }

  place(index) {
    if (index === 0) return "Start";
    return index === this.list.length - 1 ? "End" : String(index + 1);
  }

  #card(index) {
    const { name, url } = this.list[index];
    const place = this.place(index);
    const image = picture(url, name, { alt: `${place}: ${name}`, draggable: "false" });
    const card = h("li", { class: "keyframe", tabindex: -1, draggable: "true",
      onkeydown: (event) => this.#steer(event, index),
      ondragstart: (event) => {
        event.dataTransfer.setData(DRAGGED, String(index));
        event.dataTransfer.effectAllowed = "move";
        card.classList.add("dragged");
      },
      ondragend: () => card.classList.remove("dragged"),
      ondragover: (event) => { if (event.dataTransfer.types.includes(DRAGGED)) event.preventDefault(); },
      ondrop: (event) => this.#drop(event, index) },
      image, h("span", { class: "place" }, place),
      h("div", { class: "moves" },
        index > 0 && iconButton("back", `Move ${place} earlier`, () => this.#move(index, index - 1)),
        index < this.list.length - 1 && iconButton("forward", `Move ${place} later`, () => this.#move(index, index + 1)),
        iconButton("close", `Remove ${place}`, () => this.#remove(index))));
    return card;
  }

  /** The arrow keys move a keyframe, whichever of its buttons has the focus; Delete removes it. */
  #steer(event, index) {
    const to = { ArrowLeft: index - 1, ArrowRight: index + 1 }[event.key];
    if (to === undefined && event.key !== "Delete") return;
    event.preventDefault();
    event.stopPropagation();
    if (to === undefined) this.#remove(index);
    else this.#move(index, to);
  }

  #drop(event, index) {
    if (!event.dataTransfer.types.includes(DRAGGED)) return;
    event.preventDefault();
    event.stopPropagation();
    this.#move(Number(event.dataTransfer.getData(DRAGGED)), index);
  }

  /** Files may be dropped anywhere on the page. */
  #receiveDrops() {
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (on) => document.body.classList.toggle("dropping", on);
    addEventListener("dragover", (event) => { if (carriesFiles(event)) { event.preventDefault(); mark(true); } });
    addEventListener("dragleave", (event) => { if (event.relatedTarget === null) mark(false); });
    addEventListener("drop", (event) => {
      mark(false);
      if (carriesFiles(event)) { event.preventDefault(); this.add(event.dataTransfer.files); }
    });
  }
}
