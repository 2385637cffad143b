// A blind vote on videos of the same keyframes: an order without ties, artifacts, unrealistic motion. Which method made
// which is shown only once the vote is cast.

import { send } from "./api.js";
import { h, picture } from "./element.js";
import { Player } from "./player.js";
import { problemBox } from "./problem.js";
import { clipOf, notShown } from "./result.js";
import { playable, shown } from "./file.js";
import { table } from "./tally.js";
import { Work } from "./work.js";

const VOTER = "inbetween.voter";
const STUDY = "inbetween.study";
const LETTERS = "ABCDEFGHIJ";

export function ballot(ids, { say, titles }) {
  const element = h("div", { class: "ballot" });
  const work = new Work(shuffled(ids), {
    say,
    title: () => null,
    done: async (jobs) => {
      const made = jobs.filter((job) => job.state === "succeeded" && playable(job));
      element.replaceChildren(...made.length < 2 ? none(jobs) : await paper(made, { say, titles }));
    },
  });
  element.append(h("header", { class: "heading" }, h("h2", {}, "A blind vote")), work.element);
  return { element, stop: () => work.stop() };
}

/** Why there is nothing to vote on. */
function none(jobs) {
  return [
    h("header", { class: "heading" }, h("h2", {}, "A blind vote")),
    problemBox({ title: "There is nothing to vote on",
      detail: "A vote needs two videos or more that were made, in a format that this browser plays, such as mp4 or webm." }),
    h("p", {}, h("a", { href: `#compare=${jobs.map(({ id }) => id).join(",")}` }, "See what became of them")),
  ];
}

/** The same for one person on one set of videos, so that a vote cast again replaces the one before. */
function voter() {
  const known = localStorage.getItem(VOTER);
  if (known) return known;
  const made = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  localStorage.setItem(VOTER, made);
  return made;
}

export function shuffled(list) {
  const mixed = [...list];
  for (let i = mixed.length - 1; i > 0; i -= 1) {
    const j = crypto.getRandomValues(new Uint32Array(1))[0] % (i + 1);
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
}

async function paper(jobs, { say, titles }) {
  const votes = jobs.map((job, index) => new Vote(job, LETTERS[index], jobs.length));
  const clips = await Promise.all(jobs.map((job, index) => clipOf(job, 1, votes[index].element)));
  clips.forEach((clip, index) => { clip.label = `Video ${LETTERS[index]}`; });
  const player = new Player(clips);
  const ends = [jobs[0].keyframes[0], jobs[0].keyframes.at(-1)];
  const urls = await Promise.all(ends.map(({ url }) => shown(url)));
  const study = h("input", { type: "text", id: "study", value: localStorage.getItem(STUDY) ?? "first look",
    maxlength: 64, autocomplete: "off" });
  const fault = h("div");
  const cast = h("button", { type: "submit", class: "primary" }, "Cast the vote");
  const form = h("form", { class: "cast", novalidate: true, onsubmit: (event) => { event.preventDefault(); post(); } },
    h("div", { class: "field" }, h("label", { for: "study" }, "Study"), study,
      h("small", {}, "Votes are counted by study. One vote a person and set of videos.")), fault, cast);
  for (const vote of votes) vote.onrank = (rank) => {
    const other = votes.find((each) => each !== vote && each.rank === rank);
    if (other) other.swap(vote.before);
    fault.replaceChildren();
  };

  const post = async () => {
    if (votes.some((vote) => !vote.rank)) {
      return fault.replaceChildren(problemBox({ title: "Give every video its place", detail: "Best first, without ties." }));
    }
    localStorage.setItem(STUDY, study.value);
    cast.disabled = true;
    try {
      const tally = await send("votes", {
        study: study.value.trim(), voter: voter(),
        order: [...votes].sort((a, b) => a.rank - b.rank).map(({ job }) => job.id),
        artifacts: votes.filter((vote) => vote.artifacts).map(({ job }) => job.id),
        unrealistic: votes.filter((vote) => vote.unrealistic).map(({ job }) => job.id),
      });
      for (const vote of votes) vote.reveal(titles[vote.job.options.method]);
      form.replaceWith(h("section", { class: "counted" }, h("h2", {}, "Counted"), table(tally, titles),
        h("p", {}, h("a", { href: `#compare=${jobs.map(({ id }) => id).join(",")}` }, "Compare them openly"), " · ",
          h("a", { href: "#votes" }, "All votes"))));
      say("Your vote is counted.");
    } catch (problem) {
      fault.replaceChildren(problemBox(problem));
      cast.disabled = false;
    }
    return undefined;
  };

  return [
    h("header", { class: "heading" }, h("div", {}, h("h2", {}, "A blind vote"),
      h("p", { class: "hint" }, "Which comes nearest to how it would really have moved? The order is random; names come after the vote.")),
      h("div", { class: "reference" }, urls.map(({ url }, index) => h("figure", {}, picture(url, notShown(ends[index])),
        h("figcaption", {}, index ? "End" : "Start"))))),
    player.element, form,
  ];
}

/** What somebody thinks of one video. */
class Vote {
  rank = 0;
  before = 0;
  /** @type {(rank: number) => void} */
  onrank = () => {};
  #name = h("strong", {});
  #radios;
  #artifacts = h("input", { type: "checkbox" });
  #unrealistic = h("input", { type: "checkbox" });

  constructor(job, letter, count) {
    this.job = job;
    this.#name.textContent = letter;
    this.#radios = Array.from({ length: count }, (_, index) => h("input", { type: "radio", name: `rank-${letter}`,
      value: index + 1, onchange: () => this.#take(index + 1) }));
    this.element = h("div", { class: "vote", "data-letter": letter }, this.#name,
      h("fieldset", { class: "ranks" }, h("legend", { class: "unseen" }, `Place of video ${letter}`),
        this.#radios.map((radio, index) => h("label", {}, radio, h("span", {}, ordinal(index + 1))))),
      h("label", { class: "line" }, this.#artifacts, "Artifacts"),
      h("label", { class: "line" }, this.#unrealistic, "Unrealistic motion"));
  }

  get artifacts() { return this.#artifacts.checked; }
  get unrealistic() { return this.#unrealistic.checked; }

  #take(rank) {
    this.before = this.rank;
    this.rank = rank;
    this.onrank(rank);
  }

  /** Give way to another video: take the place that it had, or none. */
  swap(rank) {
    this.rank = rank;
    this.#radios.forEach((radio, index) => { radio.checked = index + 1 === rank; });
  }

  reveal(title) {
    this.#name.textContent = `${this.#name.textContent} · ${title}`;
    for (const input of this.element.querySelectorAll("input")) input.disabled = true;
  }
}

export function ordinal(number) {
  return `${number}${{ 1: "st", 2: "nd", 3: "rd" }[number] ?? "th"}`;
}
