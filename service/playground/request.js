// A request for a video: sending it, and showing it as others would write it.

import { ask, base, key } from "./api.js";
import { h, icon } from "./element.js";

const AGAIN = 1; // a request whose answer was lost is sent again; its Idempotency-Key keeps it from being made twice

/** Names of the form's parts for so many pictures. */
function partsOf(count) {
  return count > 2 ? Array(count).fill("keyframes") : ["start", "end"].slice(0, count);
}

/** Posts one request and answers with its job. Throws `Problem`. */
export async function submit(files, options) {
  const form = new FormData();
  const parts = partsOf(files.length);
  files.forEach((file, index) => { form.append(parts[index], file, file.name); });
  form.append("options", JSON.stringify(options));
  const name = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const request = { method: "POST", body: form, headers: { "Idempotency-Key": name } };
  for (let left = AGAIN; ; left -= 1) {
    try {
      return await (await ask("inbetween", request)).json();
    } catch (problem) {
      if (problem.status !== 0 || !left) throw problem;
    }
  }
}

/** The keyframes' files by their own names; those that would be one file are told apart. */
function namesOf(names) {
  return names.map((name, index) => (names.indexOf(name) === index ? name : `${index + 1}-${name}`));
}

/** A file's name as curl reads it within a shell's word. */
function fileWord(part, name) {
  if (/^[\w.-]+$/.test(name)) return `${part}=@${name}`;
  return quoted(`${part}=@"${name.replaceAll(/[\\"]/g, "\\$&")}"`);
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The request as a line for a shell. names: of the keyframes' files. */
export function curl(names, options) {
  const parts = partsOf(names.length);
  const lines = [`curl ${base()}/inbetween`];
  if (key()) lines.push(`  -H "Authorization: Bearer $INBETWEEN_KEY"`);
  lines.push(...namesOf(names).map((name, index) => `  -F ${fileWord(parts[index], name)}`));
  lines.push(`  -F ${quoted(`options=${JSON.stringify(options)}`)}`);
  return lines.join(" \\\n");
}

function literal(value) {
  return JSON.stringify(value).replaceAll(/("(?:[^"\\]|\\.)*")|\btrue\b|\bfalse\b|\bnull\b/g, (word, text) =>
    text ?? { true: "True", false: "False", null: "None" }[word]);
}

/** The request as a program that waits for its video. */
export function python(names, options) {
  const parts = partsOf(names.length);
  const keyed = key() ? `, headers={"Authorization": f"Bearer {os.environ['INBETWEEN_KEY']}"}` : "";
  const files = namesOf(names).map((name, index) => `    ("${parts[index]}", open(${literal(name)}, "rb")),`);
  return [
    `import json${key() ? ", os" : ""}, time`,
    "import httpx",
    "",
    `client = httpx.Client(base_url="${base()}", timeout=60, follow_redirects=True${keyed})`,
    "files = [",
    ...files,
    "]",
    `options = ${literal(options)}`,
    `job = client.post("/inbetween", files=files, data={"options": json.dumps(options)}).raise_for_status().json()`,
    `while job["state"] in ("queued", "running"):`,
    "    time.sleep(1)",
    `    job = client.get(f"/inbetween/{job['id']}").raise_for_status().json()`,
    `video = client.get(f"/inbetween/{job['id']}/video").raise_for_status()`,
    `open("video.${options.formats?.[0] ?? "mp4"}", "wb").write(video.content)`,
  ].join("\n");
}

/** The request in both languages, each with a button that copies it. */
export function shownAs(names, options) {
  const copy = h("button", { type: "button", class: "quiet" }, icon("copy"), "Copy");
  const code = h("pre", { tabindex: 0, "aria-label": "The request" });
  const texts = { curl: curl(names, options), Python: python(names, options) };
  const tabs = Object.keys(texts).map((name) => h("button", { type: "button", class: "tab", onclick: () => show(name) }, name));
  const show = (name) => {
    code.textContent = texts[name];
    for (const tab of tabs) tab.setAttribute("aria-pressed", String(tab.textContent === name));
  };
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    copy.replaceChildren(icon("check"), "Copied");
    setTimeout(() => copy.replaceChildren(icon("copy"), "Copy"), 2000);
  });
  show("curl");
  const sharable = navigator.clipboard ? copy : null; // browsers give it to secure pages only
  return h("details", { class: "request" }, h("summary", {}, "The exact request"),
    h("div", { class: "tabs" }, tabs, sharable), code);
}
