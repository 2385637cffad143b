// The videos made last, to go back to.

import { read } from "./api.js";
import { h } from "./element.js";
import { shown } from "./file.js";

const SHOWN = 12;

export async function history(titles) {
  const { jobs } = await read(`inbetween?limit=${SHOWN}&state=succeeded`);
  const cards = await Promise.all(jobs.filter((job) => job.result).map(async (job) => {
    const poster = job.result.files.find((file) => file.name === "poster.jpg") ?? null;
    const picture = poster && h("img", { src: (await shown(poster.url)).url, alt: "", loading: "lazy" });
    return h("li", {}, h("a", { href: `#job=${job.id}` }, picture, h("span", {}, titles[job.options.method] ?? job.options.method)));
  }));
  if (!cards.length) return null;
  return h("section", { class: "history" }, h("h2", {}, "Made before"), h("ul", {}, cards));
}
