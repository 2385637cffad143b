// The view of one job, from its queue to its result.

import { result } from "./result.js";
import { Work } from "./work.js";

/** sent: `{ names, options }` of the request, where this browser made it. titles: of the methods by name. */
export function single(id, { say, titles, sent, finished }) {
  const work = new Work([id], {
    say,
    title: (job) => titles[job.options.method] ?? job.options.method,
    done: async ([job]) => {
      if (job.state === "succeeded") {
        const { element, player } = await result(job, sent);
        work.replace(id, element);
        player?.element.focus({ preventScroll: true });
      }
      finished(job);
    },
  });
  return work;
}
