// Keyframes to start from, and the options that suit them.

import { ask } from "./api.js";
import { h, icon } from "./element.js";

const FOLDER = "playground/";

/** needs: the method without which the sample makes no sense; else optical flow shows it. */
export const SAMPLES = [
  {
    name: "Arrow",
    about: "Two ends of a flight, 64 × 64. The small model that ships knows this world.",
    files: ["arrow-start.png", "arrow-end.png"],
    options: { method: "mpd", motion_bucket_id: 157, fps: 7 },
  },
  {
    name: "Coffee",
    about: "A camera that moves in on a photograph. Optical flow needs no model.",
    files: ["coffee-start.jpg", "coffee-end.jpg"],
    options: { method: "flow", fps: 24 },
  },
];

/** The files of a sample, as if they had been picked. */
export function filesOf(sample) {
  return Promise.all(sample.files.map(async (name) => {
    const blob = await (await ask(FOLDER + name)).blob();
    return new File([blob], name, { type: blob.type });
  }));
}

/** Cards with both keyframes of each sample. `choose` is called with the sample. */
export function cards(choose) {
  return h("ul", { class: "samples" }, SAMPLES.map((sample) => h("li", {},
    h("button", { type: "button", class: "sample", onclick: () => choose(sample) },
      h("span", { class: "pair" },
        h("img", { src: FOLDER + sample.files[0], alt: "", class: sample.name === "Arrow" ? "pixels" : null }),
        icon("arrow"),
        h("img", { src: FOLDER + sample.files.at(-1), alt: "", class: sample.name === "Arrow" ? "pixels" : null })),
      h("strong", {}, sample.name), h("span", { class: "about" }, sample.about)))));
}
