// A finished job: its video, the keyframes beside it, its files, and the request that makes it again.

import { read } from "./api.js";
import { h, icon, picture } from "./element.js";
import { playable, save, shown, size } from "./file.js";
import { Player } from "./player.js";
import { shownAs } from "./request.js";

const WORDS = {
  "poster.jpg": "Poster",
  "contact-sheet.png": "Contact sheet",
  "contact-sheet.jpg": "Contact sheet",
  "metadata.json": "Metadata",
};

/** The view of a job that has succeeded. sent: `{ names, options }` of the request, where this browser made it. */
export async function result(job, sent) {
  const element = h("div", { class: "result" });
  const takes = job.result.seeds.map((seed, index) => ({ seed, take: index + 1 }));
  const show = async (take) => {
    const clip = await clipOf(job, take);
    const player = clip && new Player([clip]);
    element.replaceChildren(
      h("div", { class: "beside" },
        player?.element ?? h("p", { class: "notice" }, "This browser plays none of the video's formats. They can be saved below."),
        await ends(job, player)),
      takes.length > 1 && h("div", { class: "tabs" }, takes.map((each) => h("button", { type: "button", class: "tab",
        "aria-pressed": String(each.take === take), onclick: () => show(each.take) }, `Take ${each.take} · seed ${each.seed}`))) || "",
      warnings(job), facts(job), downloads(job, take, player),
      shownAs(sent?.names ?? namesOf(job), sent?.options ?? optionsOf(job)));
    return player;
  };
  const player = await show(1);
  return { element, player };
}

/** What a player needs of a job's take; null where this browser plays none of its formats. */
export async function clipOf(job, take = 1, below = null) {
  const file = playable(job, take);
  if (!file) return null;
  const { url, readable } = await shown(file.url);
  const label = job.options.method;
  const { frames, fps, width, height } = job.result;
  return { url, readable, label, frames, fps, width, height, below };
}

/** All keyframes; each goes to the frame that shows it, where one does. */
async function ends(job, player) {
  const urls = await Promise.all(job.keyframes.map(({ url }) => shown(url)));
  return h("ul", { class: "ends", "aria-label": "Keyframes" }, urls.map(({ url }, index) => {
    const name = index === 0 ? "Start" : index === urls.length - 1 ? "End" : `Keyframe ${index + 1}`;
    // Jobs that version 0.1.0 made tell none.
    const place = job.result.keyframes[index]?.frame ?? null;
    return h("li", {}, h("button", { type: "button", class: "end", disabled: !player || place === null,
      "aria-label": place === null ? name : `${name}: go to frame ${place + 1}`, onclick: () => player.seek(place) },
      picture(url, notShown(job.keyframes[index])), h("span", {}, name)));
  }));
}

/** In place of a keyframe in a format that this browser does not know, such as HEIC. */
export function notShown({ content_type: type }) {
  return `${type.split("/")[1].toUpperCase()}, not shown by this browser`;
}

/** To a file of the job, good from now on: the links of a page that was open for long are not good any more. */
async function linkTo(job, name) {
  const { result: { files } } = await read(`inbetween/${job.id}`);
  return files.find((file) => file.name === name).url;
}

function warnings(job) {
  const told = job.result.warnings ?? [];
  return told.length
    ? h("div", { class: "notice", role: "note", "aria-label": "Warnings" }, told.map((each) => h("p", {}, each))) : "";
}

function facts(job) {
  const { frames, fps, width, height, duration, seeds, settings, timings } = job.result;
  const seconds = Object.values(timings ?? {}).reduce((sum, each) => sum + (typeof each === "number" ? each : 0), 0);
  const pairs = [
    ["Method", settings.method ?? job.options.method], ["Seed", seeds.join(", ")], ["Size", `${width} × ${height}`],
    ["Frames", `${frames} at ${fps} fps`], ["Length", `${duration.toFixed(1)} s`],
    ["Made in", seconds ? `${seconds.toFixed(1)} s` : null],
  ];
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value).map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function downloads(job, take, player) {
  const files = job.result.files.filter((file) => file.take === take || file.take === null);
  const button = (word, note, name, link) => h("button", { type: "button", class: "download",
    "data-name": name, onclick: async () => save(await link(), `${job.id}-${name}`) }, icon("download"), h("strong", {}, word), note);
  const listed = files.map((file) => button(WORDS[file.name] ?? file.format.toUpperCase(), h("span", {}, size(file.size)),
    file.name, () => linkTo(job, file.name)));
  const frame = () => `inbetween/${job.id}/frames/${player.frame}?take=${take}`;
  if (player) listed.push(button("This frame", h("span", {}, "JPEG"), "frame.jpg", frame));
  return h("div", { class: "downloads", role: "group", "aria-label": "Downloads" }, listed);
}

/** Names for keyframes whose own are not known here. */
export function namesOf(job) {
  return job.keyframes.map(({ content_type: type }, index) => `keyframe-${index + 1}.${type.split("/")[1].replace("jpeg", "jpg")}`);
}

/** Options to send for the same video. Where its keyframes stand is no option. */
export function optionsOf(job) {
  const { positions, ...options } = job.options;
  return options;
}
