// One or several videos that play in step, in a loop, and go frame by frame. Knows nothing of jobs.

import { h, icon, iconButton } from "./element.js";

const PIXELATED = 160; // a video as small as this is shown with its pixels
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * clips: `[{ label, url, frames, fps, width, height, below }]`; `below` is what stands under the video. Clips of other lengths are
 * stretched over the time of the first one.
 */
export class Player extends EventTarget {
  #clips;
  #frame = 0;
  #wanted = null;
  #standing = false;
  #button;
  #slider;
  #counter = h("output", { class: "counter" });

  constructor(clips) {
    super();
    this.#clips = clips;
    this.frames = clips[0].frames;
    this.videos = clips.map(({ url, label, width, height }) => h("video", { src: url, width, height, muted: true, playsinline: true, preload: "auto",
      loop: clips.length === 1, "aria-label": label, disablepictureinpicture: true, tabindex: -1 }));
    for (const video of this.videos) video.muted = true; // the attribute alone does not mute a made element
    this.#button = iconButton("pause", "Pause", () => this.toggle(), { class: "play" });
    this.#slider = h("input", { type: "range", min: 0, max: this.frames - 1, step: 1, "aria-label": "Frame",
      oninput: () => this.seek(Number(this.#slider.value)) });
    this.#slider.value = 0;
    const figures = this.videos.map((video, index) => h("figure", {}, h("div", { class: "screen" }, video),
      clips[index].below ? h("figcaption", {}, clips[index].below) : null));
    this.element = h("div", { class: "player", role: "group", "aria-label": "Player: arrow keys go frame by frame, space plays",
      tabindex: 0, onkeydown: (event) => this.#steer(event) },
      h("div", { class: "screens", "data-count": clips.length }, figures),
      h("div", { class: "transport" }, this.#button,
        iconButton("back", "One frame back", () => this.step(-1)),
        this.#slider,
        iconButton("forward", "One frame forward", () => this.step(1)), this.#counter));
    this.#begin();
  }

  get frame() { return this.#frame; }
  get playing() { return !this.videos[0].paused; }

  async #begin() {
    const [lead, ...others] = this.videos;
    lead.addEventListener("play", () => { this.#drawButton(); requestAnimationFrame(this.#tick); });
    lead.addEventListener("pause", () => this.#drawButton());
    for (const video of this.videos) video.addEventListener("seeked", () => this.#seeked());
    if (others.length) lead.addEventListener("ended", () => this.#restart());
    for (const video of this.videos) video.addEventListener("error", () => video.parentElement.append(
      h("p", { class: "problem", role: "alert" }, "The video could not be loaded. Reload the page to try again.")));
    this.#show(0);
    await Promise.all(this.videos.map(loaded));
    for (const video of this.videos) video.classList.toggle("pixels", video.videoWidth <= PIXELATED);
    for (const other of others) other.playbackRate = Math.min(16, Math.max(0.1, other.duration / lead.duration));
    if (STILL.matches) this.seek(0);
    else this.play();
  }

  play() {
    this.#standing = false;
    // A browser may refuse to play a page that nobody has touched; the button then shows that it is paused.
    for (const video of this.videos) video.play().catch(() => this.#drawButton());
  }

  pause() {
    for (const video of this.videos) video.pause();
    this.#drawButton(); // the event comes later
  }

  toggle() {
    if (this.playing) this.seek(this.#frame);
    else this.play();
  }

  step(by) {
    this.seek((this.#frame + by + this.frames) % this.frames);
  }

  /** Stand still at a frame. Seeks that come faster than the videos can follow end at the last one. */
  seek(frame) {
    this.#standing = true;
    this.pause();
    this.#show(Math.max(0, Math.min(this.frames - 1, frame)));
    const busy = this.videos.some((video) => video.seeking);
    this.#wanted = this.#frame;
    if (!busy) this.#go();
  }

  #go() {
    const frame = this.#wanted;
    this.#wanted = null;
    this.videos.forEach((video, index) => {
      const { frames, fps } = this.#clips[index];
      const own = this.frames > 1 ? Math.round((frame * (frames - 1)) / (this.frames - 1)) : 0;
      video.currentTime = (own + 0.5) / fps; // the middle of the frame: its ends belong to its neighbours too
    });
  }

  #seeked() {
    if (this.videos.some((video) => video.seeking)) return;
    if (this.#wanted !== null) this.#go();
    else this.dispatchEvent(new Event("frame"));
  }

  #restart() {
    if (this.#standing) return; // the end was reached as somebody asked for a frame
    for (const video of this.videos) video.currentTime = 0;
    this.play();
  }

  #tick = () => {
    const [lead, ...others] = this.videos;
    if (lead.paused) return;
    const { fps } = this.#clips[0];
    this.#show(Math.min(this.frames - 1, Math.floor(lead.currentTime * fps + 0.01)));
    for (const other of others) {
      const due = lead.currentTime * other.playbackRate;
      if (!other.ended && !other.seeking && Math.abs(other.currentTime - due) > 1 / fps) other.currentTime = due;
    }
    requestAnimationFrame(this.#tick);
  };

  #show(frame) {
    const changed = frame !== this.#frame;
    this.#frame = frame;
    this.element.dataset.frame = frame;
    this.#slider.value = frame;
    this.#slider.setAttribute("aria-valuetext", `Frame ${frame + 1} of ${this.frames}`);
    this.#counter.textContent = `${frame + 1} / ${this.frames}`;
    if (changed && this.playing) this.dispatchEvent(new Event("frame"));
  }

  #drawButton() {
    const name = this.playing ? "Pause" : "Play";
    this.#button.replaceChildren(icon(name.toLowerCase()));
    this.#button.setAttribute("aria-label", name);
    this.#button.title = name;
    this.element.dataset.playing = String(this.playing);
  }

  /** Keys that a control within does not want for itself. */
  #steer(event) {
    const { target, key } = event;
    const typing = target.matches("input:not([type=range]), select, textarea");
    if (typing || event.altKey || event.ctrlKey || event.metaKey || (key === " " && target.matches("button"))) return;
    const action = {
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      Home: () => this.seek(0),
      End: () => this.seek(this.frames - 1),
      " ": () => this.toggle(),
    }[key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

function loaded(video) {
  if (video.readyState >= 1) return Promise.resolve();
  return new Promise((resolve) => {
    video.addEventListener("loadedmetadata", resolve, { once: true });
    video.addEventListener("error", resolve, { once: true });
  });
}
