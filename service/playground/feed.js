// The events of jobs as they happen: one stream for all of them, read with fetch so that it carries the key.
// A stream that breaks is taken up where it stopped; while none can be had, the jobs are asked for one by one.

import { ask, Problem, read } from "./api.js";

const SILENCE = 40_000; // the server says something every 15 seconds
const LONGEST_PAUSE = 8_000;
const LOOK_AGAIN = 2_000;
const OVER = new Set(["succeeded", "failed", "canceled"]);

export function isOver(job) {
  return OVER.has(job.state);
}

/**
 * Follows jobs until all are over or `stop` is called.
 *
 * handlers: `job(view)` with a job as the API shows it, whenever its state may have changed; `progress(id, progress)`;
 * `preview(id, image)` with a data URI; `fault(problem)` for what trying again will not mend; `link(live)`: whether
 * events come at once (true) or the jobs are only looked at now and then.
 */
export class Feed {
  #ids;
  #handlers;
  #open;
  #last = null;
  #queued = new Set();
  #abort = new AbortController();
  #waker = null;

  constructor(ids, handlers) {
    this.#ids = ids;
    this.#open = new Set(ids);
    this.#handlers = handlers;
    addEventListener("online", this.#wake);
    this.#run();
  }

  stop() {
    removeEventListener("online", this.#wake);
    this.#abort.abort();
    this.#wake();
  }

  /** Look at one job now, such as after it was asked to stop. */
  async look(id) {
    const job = await read(`inbetween/${id}`, { signal: this.#abort.signal });
    if (!this.#open.has(id) || this.#abort.signal.aborted) return job; // a slow answer, from before the job was over
    if (isOver(job)) this.#open.delete(id);
    this.#handlers.job(job);
    return job;
  }

  async #run() {
    let failures = 0;
    while (!this.#abort.signal.aborted) {
      try {
        await this.#lookAtAll();
        if (!this.#open.size) return this.stop();
        const before = this.#last;
        await this.#stream();
        failures = this.#last === before ? failures + 1 : 0;
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) {
          this.#handlers.fault(error);
          return this.stop();
        }
        failures += 1;
      }
      if (failures) this.#handlers.link(false);
      await this.#pause(Math.min(LONGEST_PAUSE, 250 * 2 ** failures));
    }
  }

  async #lookAtAll() {
    for (const id of this.#open) await this.look(id);
  }

  /** Reads the stream to its end. Throws when it breaks. */
  async #stream() {
    const patience = new AbortController();
    const signal = AbortSignal.any([this.#abort.signal, patience.signal]);
    const resumed = this.#last === null ? {} : { "Last-Event-ID": this.#last };
    let watchdog = setTimeout(() => patience.abort(), SILENCE);
    const looking = setInterval(() => this.#lookAtQueued(), LOOK_AGAIN);
    try {
      const answer = await ask(`events?ids=${this.#ids.join(",")}`, { headers: resumed, signal });
      this.#handlers.link(true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => patience.abort(), SILENCE);
        const blocks = (text + value).split(/\r?\n\r?\n/);
        text = blocks.pop();
        for (const block of blocks) this.#take(parse(block));
      }
    } finally {
      clearTimeout(watchdog);
      clearInterval(looking);
    }
  }

  /** @param {{ id?: string, event?: string, data?: any }} event */
  #take({ id, event, data }) {
    if (id !== undefined) this.#last = id;
    if (event === "state") this.#lookQuietly(data.job);
    else if (event === "progress") this.#handlers.progress(data.job, data);
    else if (event === "preview") this.#handlers.preview(data.job, data.image);
  }

  /** Events do not say how many are before a job in its queue. */
  #lookAtQueued() {
    for (const id of this.#queued) this.#lookQuietly(id);
  }

  #lookQuietly(id) {
    this.look(id).then(
      (job) => (job.state === "queued" ? this.#queued.add(id) : this.#queued.delete(id)),
      () => {}, // the stream, or the next round, will tell
    );
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      this.#waker = resolve;
      setTimeout(resolve, milliseconds);
    });
  }

  #wake = () => this.#waker?.();
}

/**
 * One event of a stream: its `id`, its `event`, and `data` from JSON. A comment has none of them.
 * @returns {{ id?: string, event?: string, data?: any }}
 */
export function parse(block) {
  /** @type {Record<string, string>} */
  const fields = {};
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
  return fields.data === undefined ? {} : { ...fields, data: JSON.parse(fields.data) };
}
