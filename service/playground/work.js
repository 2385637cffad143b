// Jobs on the stage: while they are under way their progress, then what they became.

import { ask } from "./api.js";
import { h, iconButton } from "./element.js";
import { Feed, isOver } from "./feed.js";
import { problemBox } from "./problem.js";
import { Progress } from "./progress.js";

/**
 * Follows jobs and draws each into a cell of its own.
 *
 * handlers: `say(words)` for screen readers; `title(job)` for a cell's heading, or null to keep it secret;
 * `done(jobs)` once, when all are over, with the jobs by id in order.
 */
export class Work {
  element = h("div", { class: "work" });
  #cells = new Map();
  #jobs = new Map();
  #feed;
  #handlers;
  #link = h("p", { class: "notice", hidden: true }, "The connection to the server broke. Looking again …");
  #quarter = 0;

  constructor(ids, handlers) {
    this.#handlers = handlers;
    this.ids = ids;
    this.element.dataset.count = ids.length;
    this.element.append(this.#link);
    this.#feed = new Feed(ids, {
      job: (job) => this.#job(job),
      progress: (id, progress) => this.#progress(id, progress),
      preview: (id, image) => this.#cells.get(id)?.progress?.preview(image),
      fault: (problem) => this.element.replaceChildren(problemBox(problem)),
      link: (live) => { this.#link.hidden = live; },
    });
  }

  stop() {
    this.#feed.stop();
  }

  /** Put something else where a job's progress was. */
  replace(id, element) {
    this.#cells.get(id).body.replaceChildren(element);
  }

  async cancel(id) {
    await ask(`inbetween/${id}/cancel`, { method: "POST" });
    await this.#feed.look(id);
  }

  #job(job) {
    const before = this.#jobs.get(job.id);
    this.#jobs.set(job.id, job);
    const cell = this.#cells.get(job.id) ?? this.#cell(job);
    if (isOver(job)) {
      cell.cancel.hidden = true;
      cell.body.replaceChildren(ending(job));
    } else if (!cell.progress) {
      cell.progress = new Progress(job);
      cell.body.replaceChildren(cell.progress.element);
    } else {
      cell.progress.job(job);
    }
    if (before?.state !== job.state && this.ids.length === 1) this.#handlers.say(spoken(job));
    const jobs = this.ids.map((id) => this.#jobs.get(id));
    if (jobs.every((each) => each && isOver(each))) this.#handlers.done(jobs);
  }

  #progress(id, progress) {
    const cell = this.#cells.get(id);
    cell?.progress?.progress(progress);
    const quarter = Math.floor(4 * (progress.fraction ?? 0));
    if (this.ids.length === 1 && quarter > this.#quarter && quarter < 4) this.#handlers.say(`${25 * quarter} percent.`);
    this.#quarter = Math.max(this.#quarter, quarter);
  }

  #cell(job) {
    const title = this.#handlers.title(job);
    const cancel = iconButton("close", `Cancel ${title ?? "this video"}`, () => this.cancel(job.id), { class: "cancel" });
    cancel.append(h("span", {}, "Cancel"));
    const body = h("div", { class: "body" });
    const cell = { body, cancel, progress: null };
    cell.element = h("article", { class: "cell", "data-job": job.id },
      h("header", {}, h("h2", {}, title ?? "In the making"), cancel), body);
    this.#cells.set(job.id, cell);
    const order = this.ids.map((id) => this.#cells.get(id)?.element).filter(Boolean);
    this.element.replaceChildren(this.#link, ...order);
    return cell;
  }
}

/** What is to be seen of a job that is over, apart from its video. */
export function ending(job) {
  if (job.state === "failed") return problemBox(job.error ?? { title: "The job failed" });
  if (job.state === "canceled") return h("p", { class: "notice" }, "Canceled. Nothing was made.");
  return h("p", { class: "notice" }, "Done.");
}

function spoken(job) {
  if (job.state === "queued") return job.position ? `Queued, ${job.position} before this one.` : "Queued, next in line.";
  return { running: "Begun.", succeeded: "The video is ready.", failed: "The job failed.", canceled: "Canceled." }[job.state];
}

