// Requests to the API on whose page this is, with the key where there is one. Paths are relative to the page, so that
// the playground works below any path of a proxy.

const KEPT = "inbetween.key";

/** An error of the API (RFC 9457), or of the way there. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? "The request failed.");
    this.status = status;
    this.type = body.type ?? "about:blank";
    this.title = body.title ?? "The request failed";
    this.detail = body.detail ?? "";
    this.remedy = body.remedy ?? "";
    this.errors = body.errors ?? (body.field ? [{ field: body.field, detail: this.detail, remedy: this.remedy }] : []);
  }
}

export function key() {
  return sessionStorage.getItem(KEPT) ?? "";
}

export function keep(secret) {
  sessionStorage.setItem(KEPT, secret);
}

export function headers() {
  return key() ? { Authorization: `Bearer ${key()}` } : {};
}

/** The page's own base, without a closing slash, as a caller elsewhere would write it. */
export function base() {
  return new URL(".", document.baseURI).href.replace(/\/$/, "");
}

/** The answer, if it is a good one. Throws `Problem`. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const remedy = "Check that it is running and that you are connected; then try again.";
    throw new Problem(0, { title: "The server does not answer", detail: "The request did not reach the server.", remedy });
  }
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

export async function read(path, options) {
  return (await ask(path, options)).json();
}

export function send(path, body) {
  return read(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}
