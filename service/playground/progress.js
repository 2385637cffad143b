// A job under way: its place in the queue, its step, the time left, and the picture as it becomes clear.

import { h } from "./element.js";
import { shown } from "./file.js";

const STAGES = {
  fetching: "Fetching the keyframes",
  waiting: "Waiting for the engine",
  encoding: "Writing the files",
  uploading: "Storing the files",
};

export class Progress {
  #bar = h("progress", { max: 1, "aria-label": "Progress" });
  #words = h("p", { class: "words" });
  #left = h("p", { class: "left" });
  #screen = h("div", { class: "screen waiting" });
  #picture = null;

  constructor(job) {
    this.element = h("div", { class: "progress" }, this.#screen,
      h("div", { class: "figures" }, this.#words, this.#left), this.#bar);
    this.#ghosts(job);
    this.job(job);
  }

  /** Until there is anything to see, the keyframes fade into each other. */
  async #ghosts(job) {
    const ends = [job.keyframes[0], job.keyframes.at(-1)];
    this.#screen.style.setProperty("--aspect", aspect(job));
    const urls = await Promise.all(ends.map(({ url }) => shown(url)));
    if (this.#picture) return;
    this.#screen.append(...urls.map(({ url }, index) => h("img", { src: url, alt: "", class: `ghost ghost-${index}` })));
  }

  job(job) {
    this.element.dataset.state = job.state;
    if (job.state === "queued") {
      this.#bar.removeAttribute("value");
      this.#say(job.position ? `${job.position} ${job.position === 1 ? "job" : "jobs"} before this one` : "Next in line", "");
    } else if (job.cancel_requested) {
      this.#say("Stopping at the next step", "");
    } else if (job.progress) {
      this.progress(job.progress);
    } else {
      this.#say("Starting", "");
    }
  }

  progress({ stage, step, steps, take, takes, segment, segments, fraction, eta }) {
    this.element.dataset.stage = stage;
    if (fraction !== undefined && fraction !== null) this.#bar.value = fraction;
    if (stage !== "sampling" || !steps) return this.#say(STAGES[stage] ?? "Working", "");
    this.element.dataset.step = step;
    const parts = [`Step ${step} of ${steps}`];
    if (segments > 1) parts.push(`part ${(segment ?? 0) + 1} of ${segments}`);
    if (takes > 1) parts.push(`take ${take} of ${takes}`);
    return this.#say(parts.join(" · "), eta === null || eta === undefined ? "" : timeLeft(eta));
  }

  preview(image) {
    if (!this.#picture) {
      this.#picture = h("img", { alt: "The video so far", class: "preview" });
      this.#screen.replaceChildren(this.#picture);
      this.#screen.classList.remove("waiting");
    }
    this.#picture.src = image;
  }

  get words() { return this.#words.textContent; }

  #say(words, left) {
    this.#words.textContent = words;
    this.#left.textContent = left;
  }
}

export function aspect(job) {
  const { width, height } = job.options;
  const first = job.keyframes[0];
  return String(width ? width / height : first.width / first.height);
}

export function timeLeft(seconds) {
  if (seconds < 1.5) return "a second left";
  if (seconds < 90) return `about ${Math.round(seconds)} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}
