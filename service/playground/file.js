// Files of jobs, as a page can show them: their signed links, or bytes fetched with the key.

import { Problem, headers } from "./api.js";

const AWAY = {
  title: "The file did not come",
  detail: "The server does not answer, or its storage does not let this page read from it.",
  remedy: "Try again; else allow this origin in the bucket's CORS rules, or set STORAGE_PROXY.",
};
const fetched = new Map();

/**
 * Where a picture or a video can be shown from: `{ url, readable }`. A file that the page may read is fetched once, whole,
 * so that every frame can be gone to at once, and `readable` is true. A storage on another host that does not allow it
 * (CORS) still lets the file be shown by its link, but not looked into. `problem`: why the file itself did not come.
 */
export async function shown(link) {
  if (!fetched.has(link)) fetched.set(link, fetchWhole(link));
  const found = await fetched.get(link);
  if (found.problem) fetched.delete(link);
  return found;
}

async function fetchWhole(link) {
  const own = new URL(link, document.baseURI).origin === location.origin;
  try {
    const answer = await fetch(link, own ? { headers: headers() } : { credentials: "omit" });
    if (answer.ok) return { url: URL.createObjectURL(await answer.blob()), readable: true };
    const words = { title: "The file cannot be had", detail: `The storage answered ${answer.status}.` };
    return { url: link, readable: false, problem: new Problem(answer.status, await answer.json().catch(() => words)) };
  } catch {
    // A link to another host was refused by the browser, for want of CORS; it may still be shown.
    return { url: link, readable: false, problem: own ? new Problem(0, AWAY) : null };
  }
}

/** The bytes behind a link. Throws `Problem` where the page may not read them. */
export async function fileOf(link, name, type) {
  const { url, readable, problem } = await shown(link);
  if (!readable) throw problem ?? new Problem(0, AWAY);
  return new File([await (await fetch(url)).blob()], name, { type });
}

/** The file of a take in the first of the formats that this browser plays. */
export function playable(job, take = 1) {
  const video = document.createElement("video");
  const files = job.result.files.filter((file) => file.take === take && file.name.startsWith("take-"));
  return files.find((file) => file.content_type.startsWith("video/") && video.canPlayType(file.content_type)) ?? null;
}

/** Has the browser save a file. Throws `Problem` where it cannot be had. */
export async function save(link, name) {
  const { url, readable, problem } = await shown(link);
  if (problem) throw problem;
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  if (!readable) anchor.target = "_blank";
  anchor.click();
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
