// Files of jobs, as a page can show them: their signed links, or bytes fetched with the key.

import { headers } from "./api.js";

const fetched = new Map();

/**
 * Where a picture or a video can be shown from: `{ url, readable }`. A file that the page may read is fetched once, whole,
 * so that every frame can be gone to at once, and `readable` is true. A storage on another host that does not allow it
 * (CORS) still lets the file be shown by its link, but not looked into.
 */
export function shown(link) {
  if (!fetched.has(link)) fetched.set(link, fetchWhole(link));
  return fetched.get(link);
}

async function fetchWhole(link) {
  const own = new URL(link, document.baseURI).origin === location.origin;
  try {
    const answer = await fetch(link, own ? { headers: headers() } : { credentials: "omit" });
    if (answer.ok) return { url: URL.createObjectURL(await answer.blob()), readable: true };
  } catch {
    // Refused by the browser, for want of CORS; the link itself may still be shown.
  }
  return { url: link, readable: false };
}

/** The file of a take in the first of the formats that this browser plays. */
export function playable(job, take = 1) {
  const video = document.createElement("video");
  const files = job.result.files.filter((file) => file.take === take && file.name.startsWith("take-"));
  return files.find((file) => file.content_type.startsWith("video/") && video.canPlayType(file.content_type)) ?? null;
}

/** Has the browser save a file. */
export async function save(link, name) {
  const { url, readable } = await shown(link);
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
