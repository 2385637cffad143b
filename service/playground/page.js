// The page: which view is shown, by the part of the address after `#`.
//
//   #              keyframes and options        #job=ID        one video
//   #compare=A,B   several in step              #rank=A,B      a blind vote         #votes   all votes

import { ask, read } from "./api.js";
import { ballot } from "./ballot.js";
import { comparison } from "./comparison.js";
import { enter } from "./door.js";
import { h } from "./element.js";
import { fileOf } from "./file.js";
import { Form } from "./form.js";
import { history } from "./history.js";
import { hush, problemBox, tell, watchFaults } from "./problem.js";
import { submit } from "./request.js";
import { namesOf, optionsOf } from "./result.js";
import { cards, filesOf } from "./samples.js";
import { single } from "./single.js";
import { tallies } from "./tally.js";
import { mountTheme } from "./theme.js";

const SENT = "inbetween.sent";
const YOUNG = 120_000; // a page opened as the service starts sees its engine come
const SOON = 2_000;
const LATER = 60_000;
const stage = document.getElementById("stage");
const status = document.getElementById("status");
const main = document.getElementById("main");

let catalogue;
let form;
let titles = {};
let view = null;
let turn = 0;

function say(words) {
  status.textContent = words;
}

/** What was sent for a job, so that a reload still knows the names of the files. */
function sent(id) {
  return JSON.parse(sessionStorage.getItem(`${SENT}.${id}`) ?? "null");
}

async function start(sample) {
  form.busy = true;
  try {
    form.fill(await filesOf(sample), sample.options);
  } finally {
    form.busy = false;
  }
  /** @type {HTMLElement} */ (document.querySelector(".send .primary")).focus({ preventScroll: true });
  const { top } = form.keyframes.element.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) document.getElementById("form").scrollIntoView();
  say(`${sample.name}: both keyframes are in place.`);
}

async function make({ files, requests, blind }) {
  form.busy = true;
  const jobs = [];
  try {
    for (const options of requests) {
      const job = await submit(files, options);
      sessionStorage.setItem(`${SENT}.${job.id}`, JSON.stringify({ names: files.map(({ name }) => name), options }));
      jobs.push(job.id);
    }
    const kind = jobs.length === 1 ? "job" : blind ? "rank" : "compare";
    location.hash = `${kind}=${jobs.join(",")}`;
    scrollTo({ top: 0 });
  } catch (problem) {
    form.refuse(problem);
    // Half a comparison is none.
    await Promise.all(jobs.map((id) => ask(`inbetween/${id}/cancel`, { method: "POST" })));
  } finally {
    form.busy = false;
  }
}

/** After a reload the form is empty: take from the job what it was made of. */
async function recall(id) {
  if (form.keyframes.list.length) return;
  try {
    const job = await read(`inbetween/${id}`);
    const names = sent(id)?.names ?? namesOf(job);
    const files = await Promise.all(job.keyframes.map(({ url, content_type: type }, index) =>
      fileOf(url, names[index], type)));
    if (!form.keyframes.list.length) form.fill(files, sent(id)?.options ?? optionsOf(job));
  } catch (problem) {
    if (problem.status >= 400 && problem.status < 500) return; // the stage says it
    form.keyframes.note("This video's keyframes cannot be read back. Choose them anew to make another.");
  }
}

async function welcome() {
  const made = await history(titles).catch(problemBox);
  return { element: h("div", { class: "welcome" },
    h("div", { class: "hero" }, h("h2", {}, "Two pictures.", h("br"), "The motion between them."),
      h("p", {}, "Choose a start and an end and get the frames in between, or begin with one of these.")),
    cards(start), made ?? ""), stop: () => {} };
}

const VIEWS = {
  job: ([id]) => single(id, { say, titles, sent: sent(id), finished: () => {} }),
  compare: (ids) => comparison(ids, { say, titles, finished: () => {} }),
  rank: (ids) => ballot(ids, { say, titles }),
  votes: () => tallies({ titles, say }),
};

async function show() {
  turn += 1;
  const mine = turn;
  const [name, ids] = location.hash.slice(1).split("=");
  const wanted = (ids ?? "").split(",").filter(Boolean);
  const known = Object.hasOwn(VIEWS, name) && (wanted.length || name === "votes") ? name : "";
  view?.stop();
  hush();
  main.dataset.view = known;
  for (const link of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-page]"))) {
    const current = (link.dataset.page === "votes") === (known === "votes");
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let next;
  try {
    next = known ? await VIEWS[known](wanted) : await welcome();
  } catch (problem) {
    next = { element: problemBox(problem), stop: () => {} };
  }
  if (mine !== turn) return next.stop();
  view = next;
  stage.replaceChildren(view.element);
  if (known === "job") recall(ids);
  return undefined;
}

/** Until the engines that there will be are known. */
function watchEngines(heard = true) {
  const waiting = catalogue.methods.some((method) => method.available === null);
  const young = performance.now() < YOUNG || catalogue.engines.some((engine) => engine.state === "starting");
  if (waiting) setTimeout(async () => {
    try {
      catalogue = await read("methods");
    } catch (problem) {
      if (heard) tell(problem);
      return watchEngines(false);
    }
    form.update(catalogue);
    return watchEngines();
  }, young ? SOON : LATER);
}

async function open() {
  watchFaults();
  mountTheme(document.getElementById("theme"));
  document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); stage.focus(); });
  try {
    catalogue = await enter(document.getElementById("key"));
  } catch (problem) {
    stage.replaceChildren(problemBox(problem));
    return;
  }
  titles = Object.fromEntries(catalogue.methods.map(({ name, title }) => [name, title]));
  form = new Form(document.getElementById("form"), catalogue, say);
  form.addEventListener("ask", (event) => make(event.detail));
  addEventListener("hashchange", show);
  await show();
  watchEngines();
  document.documentElement.dataset.ready = "true";
}

open();
