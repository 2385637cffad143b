// What to make: keyframes, one method or several to compare, and options. Knows how a request looks, not what becomes
// of it.

import { h, icon, iconButton } from "./element.js";
import { makeFields } from "./fields.js";
import { Keyframes } from "./keyframes.js";

const LIGHT_FORMATS = ["mp4", "webm", "gif", "png"];
const SMALL_MODEL = 128; // pixels of the longer side: a model to try things out with, not one for photographs

export class Form extends EventTarget {
  #form;
  #words = h("span");
  #submit = h("button", { type: "submit", class: "primary" }, this.#words, icon("arrow"));
  #fault = h("div", { class: "problem", role: "alert", hidden: true });
  #about = h("p", { class: "about-method" });
  #select = h("select", { id: "method", "aria-describedby": "about-method" });
  #boxes = h("div", { class: "boxes", role: "group", "aria-label": "Methods to compare" });
  #one = h("input", { type: "radio", name: "mode", value: "one", checked: true });
  #several = h("input", { type: "radio", name: "mode", value: "several" });
  #blind = h("input", { type: "checkbox", id: "blind" });
  #formats = h("div", { class: "boxes", role: "group", "aria-label": "Formats" });
  #touched = false;

  /** catalogue: the answer of `GET /methods`. say: tells screen readers. */
  constructor(form, catalogue, say) {
    super();
    this.#form = form;
    this.keyframes = new Keyframes(say);
    this.fields = makeFields(catalogue.options);
    this.#about.id = "about-method";
    this.#lay();
    this.update(catalogue);
    form.addEventListener("submit", (event) => { event.preventDefault(); this.#ask(); });
    form.addEventListener("change", (event) => {
      if (event.target === this.#select || this.#boxes.contains(event.target)) this.#touched = true;
      this.#show();
    });
    this.keyframes.addEventListener("change", () => { this.#clearFaults(); this.#show(); });
  }

  /** Methods and engines as they are now. */
  update(catalogue) {
    this.catalogue = catalogue;
    const chosen = this.#touched ? this.#select.value : this.#preferred();
    const chosenBoxes = new Set(this.#ticked(this.#boxes));
    const named = (method) => `${method.title}${this.#able(method) ? "" : " (no engine for it)"}`;
    this.#select.replaceChildren(...catalogue.methods.map((method) =>
      h("option", { value: method.name, disabled: !this.#able(method) }, named(method))));
    this.#select.value = chosen;
    this.#boxes.replaceChildren(...catalogue.methods.map((method) => h("label", {},
      h("input", { type: "checkbox", value: method.name, disabled: !this.#able(method),
        checked: chosenBoxes.size ? chosenBoxes.has(method.name) : this.#able(method) && method.uses_end }),
      named(method))));
    if (!this.#formats.children.length) {
      this.#formats.append(...Object.keys(catalogue.formats).map((name) => h("label", {},
        h("input", { type: "checkbox", value: name, checked: LIGHT_FORMATS.includes(name) }), name)));
    }
    this.#show();
  }

  /** Fill the form in, such as from a sample or from a job. files: null leaves the keyframes as they are. */
  fill(files, options) {
    if (files) this.keyframes.set(files);
    for (const [name, field] of Object.entries(this.fields)) field.write(options[name]);
    if (options.seeds) this.fields.seed.write(options.seeds[0]);
    const method = this.#method(options.method);
    if (method && this.#able(method)) this.#select.value = method.name;
    else if (options.method) this.#select.value = this.catalogue.methods.find((each) => !each.needs_model).name;
    this.#touched = true;
    this.#show();
  }

  set busy(on) {
    this.#submit.disabled = on;
  }

  /** Show an error of the API where it belongs: at its fields, and above the button. */
  refuse(problem) {
    this.#clearFaults();
    const elsewhere = problem.errors.filter(({ field, detail, remedy }) => {
      const shown = this.#form.querySelector(`[data-field="${CSS.escape((field ?? "").replace(/^options\./, ""))}"] .fault`);
      if (!shown) return true;
      shown.textContent = `${detail} ${remedy}`;
      shown.hidden = false;
      shown.closest("details")?.setAttribute("open", "");
      shown.parentElement.querySelector("input, select")?.setAttribute("aria-invalid", "true");
      return false;
    });
    const words = elsewhere.length
      ? elsewhere.map(({ field, detail, remedy }) => h("p", {}, field && h("code", {}, field), " ", detail, " ", remedy))
      : [h("p", {}, problem.errors.length ? "See the marked fields." : `${problem.detail} ${problem.remedy}`)];
    this.#fault.replaceChildren(h("strong", {}, problem.title), ...words);
    this.#fault.hidden = false;
  }

  #clearFaults() {
    this.#fault.hidden = true;
    for (const fault of this.#form.querySelectorAll(".fault")) fault.hidden = true;
    for (const input of this.#form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  }

  #lay() {
    const mode = h("fieldset", { class: "segmented" }, h("legend", { class: "unseen" }, "How many methods"),
      h("label", {}, this.#one, h("span", {}, "One method")), h("label", {}, this.#several, h("span", {}, "Compare")));
    this.single = h("div", {}, h("label", { for: "method", class: "unseen" }, "Method"), this.#select, this.#about);
    this.multiple = h("div", {}, this.#boxes, h("label", { class: "line" }, this.#blind, "Judge them blind, then vote"));
    this.#several.closest("label").dataset.mode = "several";
    const { seed, ...others } = this.fields;
    const of = (...groups) => Object.values(others).filter(({ option }) => groups.includes(option.group)).map(({ element }) => element);
    const dice = iconButton("dice", "A random seed", () => {
      this.fields.seed.write(crypto.getRandomValues(new Uint16Array(1))[0]);
    });
    seed.element.classList.add("with-button");
    seed.element.querySelector("input").after(dice);
    this.knobs = h("fieldset", { class: "knobs" }, h("legend", {}, "Motion Prior Distillation"), of("distillation"));
    this.#form.replaceChildren(
      h("section", {}, h("h2", {}, "Keyframes"), this.keyframes.element,
        h("p", { class: "hint" }, "Drop, paste or pick pictures. Drag them, or use the arrow keys, to change the order.")),
      h("section", {}, h("div", { class: "heading" }, h("h2", {}, "Method"), mode), this.single, this.multiple),
      h("section", {}, h("div", { class: "three" }, seed.element, of("basics")),
        h("p", { class: "hint" }, "The same seed gives the same video. Frames are those of each segment, both keyframes included.")),
      this.knobs,
      h("details", { class: "more" }, h("summary", {}, "More settings"),
        h("div", { class: "two" }, of("video", "interpolation", "sampling", "delivery")),
        h("div", { class: "field", "data-field": "formats" }, h("span", { class: "label" }, "Formats"), this.#formats,
          h("small", { class: "fault", hidden: true }))),
      h("div", { class: "send" }, this.#fault, this.#submit));
  }

  #show() {
    const several = this.#several.checked;
    const chosen = this.chosen();
    const method = this.#method(this.#select.value);
    this.single.hidden = several;
    this.multiple.hidden = !several;
    this.#about.replaceChildren(method?.description ?? "", ...this.#engineNote(method));
    for (const [name, field] of Object.entries(this.fields)) {
      if (field.option.methods.length === this.catalogue.methods.length) continue;
      const having = chosen.filter((each) => field.option.methods.includes(each));
      field.element.hidden = !having.length;
      field.fallback(having.length === 1 ? this.#method(having[0]).defaults[name] : undefined, "own");
    }
    this.knobs.hidden = !this.knobs.querySelector(".field:not([hidden])");
    this.fields.frames.fallback(undefined, this.#nativeFrames(method));
    const words = several ? `Make ${chosen.length} videos` : "Make the video";
    // A change comes as the button is pressed; were its words replaced then, the click would be lost.
    if (this.#words.textContent !== words) this.#words.textContent = words;
  }

  #engineNote(method) {
    if (method?.available === null) return [" The engine is starting; the job will wait for it."];
    if (!method?.needs_model) return [];
    const engine = this.catalogue.engines.find((each) => each.state === "ready" && each.methods.includes(method.name));
    const size = engine?.native_size;
    if (!size) return [];
    const note = ` The engine's model makes ${engine.native_frames} frames of ${size[0]} × ${size[1]}.`;
    if (Math.max(...size) > SMALL_MODEL) return [note];
    const better = this.catalogue.methods.find((each) => !each.needs_model && each.name !== "flow" && each.available);
    return [note, h("strong", {},
      ` It is a small one that knows only the arrow; for photographs choose ${better?.title ?? "optical flow"}.`)];
  }

  #nativeFrames(method) {
    if (method?.native_frames) return method.native_frames;
    return this.#modelFrames ?? "the model's";
  }

  #preferred() {
    const { methods, default: usual } = this.catalogue;
    const found = methods.find((method) => method.name === usual);
    return found?.available ? usual : methods.find((method) => this.#able(method))?.name;
  }

  #method(name) {
    return this.catalogue.methods.find((method) => method.name === name);
  }

  /** A job for an engine that is about to start may wait for it. One without a model is none for a model's method. */
  #able(method) {
    return method.available ?? this.catalogue.engines.some((engine) => engine.state === "starting"
      && (engine.model || !method.needs_model));
  }

  get #modelFrames() {
    return this.catalogue.engines.find((engine) => engine.state === "ready" && engine.model)?.native_frames;
  }

  #ticked(boxes) {
    return [...boxes.querySelectorAll("input:checked")].map((input) => input.value);
  }

  chosen() {
    if (!this.#several.checked) return [this.#select.value];
    return this.#ticked(this.#boxes).filter((name) => this.#able(this.#method(name)));
  }

  /** The options of a request with one of the chosen methods: what differs from the defaults, and fits the method. */
  options(name) {
    const options = { method: name };
    for (const [key, field] of Object.entries(this.fields)) {
      const value = field.read();
      if (value !== undefined && value !== "" && field.option.methods.includes(name)) options[key] = value;
    }
    const common = this.#several.checked && this.#commonFrames();
    return { ...(common ? { frames: common } : {}), ...options, formats: this.#ticked(this.#formats) };
  }

  /** Frames for videos that are to play in step, where the form says nothing: the model's own number. */
  #commonFrames() {
    return this.#modelled && this.#modelFrames;
  }

  get #modelled() {
    return this.chosen().some((name) => this.#method(name).needs_model);
  }

  #ask() {
    this.#clearFaults();
    const fault = this.#faultOfOwn();
    if (fault) return this.refuse({ title: fault, detail: "", remedy: "", errors: [] });
    const detail = {
      files: this.keyframes.list.map(({ file }) => file),
      requests: this.chosen().map((name) => this.options(name)),
      blind: this.#several.checked && this.#blind.checked,
    };
    return this.dispatchEvent(new CustomEvent("ask", { detail }));
  }

  #faultOfOwn() {
    const chosen = this.chosen();
    const least = Math.max(...chosen.map((name) => this.#method(name).min_keyframes));
    if (!chosen.length) return "Choose the methods to compare.";
    if (this.#several.checked && chosen.length < 2) return "Choose two methods or more to compare.";
    if (this.#several.checked && this.#modelled && !this.fields.frames.read() && !this.#commonFrames()) {
      return "The engine is starting, and its number of frames is not known yet. Wait a moment, or say how many frames.";
    }
    const missing = least - this.keyframes.list.length;
    if (missing > 0) return missing === 1 && this.keyframes.list.length ? "Choose the end keyframe." : "Choose the keyframes first.";
    if (!this.#ticked(this.#formats).length) return "Choose a format.";
    return null;
  }
}
