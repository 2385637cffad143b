// The same keyframes and seed through several methods, side by side and in step.

import { difference } from "./difference.js";
import { h, icon } from "./element.js";
import { playable } from "./file.js";
import { clipOf } from "./result.js";
import { Player } from "./player.js";
import { Work, ending } from "./work.js";

export function comparison(ids, { say, titles, finished }) {
  const element = h("div", { class: "comparison" });
  const work = new Work(ids, {
    say,
    title: (job) => titles[job.options.method] ?? job.options.method,
    done: async (jobs) => {
      element.replaceChildren(...await compared(jobs, titles));
      /** @type {HTMLElement | null} */ (element.querySelector(".player"))?.focus({ preventScroll: true });
      say("All videos are over.");
      finished();
    },
  });
  element.append(work.element);
  return { element, stop: () => work.stop() };
}

async function compared(jobs, titles) {
  const made = jobs.filter((job) => job.state === "succeeded");
  const clips = (await Promise.all(made.map(async (job) => {
    const clip = await clipOf(job, 1, below(job, titles));
    return clip && { ...clip, label: titles[job.options.method] ?? job.options.method };
  }))).filter(Boolean);
  const others = jobs.filter((job) => job.state !== "succeeded").map((job) =>
    h("section", { class: "left-out" }, h("h3", {}, titles[job.options.method]), ending(job)));
  const unplayed = made.filter((job) => !playable(job)).map((job) => h("section", { class: "left-out" },
    h("h3", {}, titles[job.options.method]), h("p", { class: "notice" }, "This browser plays none of its formats. ",
      h("a", { href: `#job=${job.id}` }, "Save them"))));
  if (!clips.length) return [...unplayed, ...others];
  const player = new Player(clips);
  const ballot = clips.length > 1 && h("a", { class: "button", href: `#rank=${made.map(({ id }) => id).join(",")}` },
    "Rank them blind", icon("arrow"));
  const heading = h("header", { class: "heading" }, h("h2", {}, clips.length > 1 ? `${clips.length} methods in step` : "One method"), ballot || "");
  return [heading, player.element, clips.length > 1 ? difference(player, clips) : "", ...unplayed, ...others];
}

function below(job, titles) {
  const { timings, gpu_seconds: gpu } = job.result;
  const seconds = gpu ?? timings?.sampling;
  return [h("a", { href: `#job=${job.id}` }, titles[job.options.method] ?? job.options.method),
    seconds ? h("span", {}, `${seconds.toFixed(1)} s`) : null];
}
