// Where two videos differ, at the frame they stand at: |A − B|, brightened.

import { h } from "./element.js";

const BRIGHTER = 4;

/** A canvas that follows a player. clips: the player's, each with its label and whether its file is `readable`. */
export function difference(player, clips) {
  const canvas = h("canvas", { role: "img", "aria-label": "Difference of the two videos" });
  const words = h("output", { class: "measure" });
  const choose = (label, index) => h("select", { "aria-label": label, onchange: () => draw() },
    clips.map((clip, each) => h("option", { value: each, selected: each === index }, clip.label)));
  const first = choose("First video", 0);
  const second = choose("Second video", 1);

  const draw = () => {
    const [a, b] = [first, second].map((select) => player.videos[Number(select.value)]);
    if (!a.videoWidth || !b.videoWidth) return;
    if (canvas.width !== a.videoWidth) canvas.width = a.videoWidth;
    if (canvas.height !== a.videoHeight) canvas.height = a.videoHeight;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.globalCompositeOperation = "copy";
    pen.drawImage(a, 0, 0, canvas.width, canvas.height);
    pen.globalCompositeOperation = "difference";
    pen.drawImage(b, 0, 0, canvas.width, canvas.height);
    words.textContent = measured(pen, canvas, [first, second].map((select) => clips[Number(select.value)]));
  };
  canvas.style.setProperty("filter", `brightness(${BRIGHTER})`);
  player.addEventListener("frame", draw);
  draw();
  return h("section", { class: "difference" }, h("h3", {}, "Difference"),
    h("div", { class: "chosen" }, first, h("span", {}, "against"), second, words),
    h("div", { class: "screen" }, canvas),
    h("p", { class: "hint" }, `Black is equal; shown ${BRIGHTER} times as bright as it is.`));
}

/** The mean difference in words; or why there is none. */
function measured(pen, canvas, clips) {
  if (!clips.every(({ readable }) => readable)) {
    return "The storage does not let this page read its videos, so the difference is shown but cannot be measured. "
      + "Allow this origin in the bucket's CORS rules, or set STORAGE_PROXY.";
  }
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) sum += data[i] + data[i + 1] + data[i + 2];
  return `${(sum / (0.75 * data.length)).toFixed(1)} of 255 grey levels on average`;
}
