// Votes counted by method, in the columns of the paper's user study.

import { ask, read } from "./api.js";
import { h } from "./element.js";

/** @type {[string, string, (each: any) => string][]} */
const COLUMNS = [
  ["Mean rank", "lower is better", (each) => each.mean_rank.toFixed(2)],
  ["Ranked first", "higher is better", (each) => percent(each.first)],
  ["Artifacts", "lower is better", (each) => percent(each.artifacts)],
  ["Unrealistic motion", "lower is better", (each) => percent(each.unrealistic)],
  ["Votes", "", (each) => String(each.votes)],
];

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** tally: the answer of `GET /votes`. */
export function table(tally, titles) {
  const head = COLUMNS.map(([name, better]) => h("th", { scope: "col" }, name, better && h("small", {}, better)));
  const rows = tally.methods.map((each) => h("tr", {}, h("th", { scope: "row" }, titles[each.method] ?? each.method),
    COLUMNS.map(([, , value]) => h("td", {}, value(each)))));
  return h("div", { class: "scrolled", tabindex: 0, role: "region", "aria-label": "Votes by method" },
    h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Method"), head)), h("tbody", {}, rows)));
}

/** The page of all studies. */
export async function tallies({ titles, say }) {
  const element = h("div", { class: "tallies" });
  const show = async (study) => {
    const tally = await read(`votes${study ? `?study=${encodeURIComponent(study)}` : ""}`);
    const select = h("select", { id: "study", onchange: () => show(select.value) },
      tally.studies.map((name) => h("option", { value: name }, name)));
    select.value = tally.study;
    const erase = h("button", { type: "button", class: "quiet", onclick: async () => {
      if (!confirm(`Erase all votes of “${tally.study}”?`)) return;
      await ask(`votes?study=${encodeURIComponent(tally.study)}`, { method: "DELETE" });
      say("The votes are erased.");
      show();
    } }, "Erase this study");
    const none = h("div", { class: "empty" }, h("p", {}, "No votes yet."), h("p", {},
      "Choose ", h("strong", {}, "Compare"), " on the ", h("a", { href: "#" }, "start page"),
      " and tick ", h("em", {}, "Judge them blind"), ": the same keyframes go through several methods, and you rank the "
      + "videos without knowing which is which."));
    element.replaceChildren(h("header", { class: "heading" }, h("div", {}, h("h2", {}, "Votes"),
      h("p", { class: "hint" }, "What people who did not know the method thought, as in the paper's user study."))),
      ...(tally.methods.length
        ? [h("div", { class: "chosen" }, h("label", { for: "study" }, "Study"), select, erase), table(tally, titles)]
        : [none]));
  };
  await show();
  return { element, stop: () => {} };
}
