// What went wrong, for people: a box with its words; and for what has no place of its own on the page, one that lies
// over it until it is closed or another view is chosen.

import { Problem } from "./api.js";
import { h, iconButton } from "./element.js";

/**
 * An error of the API, or one with the same words.
 * @param {{ title: string, detail?: string, remedy?: string }} problem
 */
export function problemBox({ title, detail, remedy }) {
  return h("div", { class: "problem", role: "alert" }, h("strong", {}, title), detail && h("p", {}, detail),
    remedy && h("p", {}, remedy));
}

/** Say that something failed. What was only given up, as the view changed, is no failure. */
export function tell(error) {
  if (error?.name === "AbortError") return;
  const box = problemBox(error instanceof Problem ? error : {
    title: "Something on this page went wrong",
    detail: error?.message ?? String(error),
    remedy: "Reload the page. What is under way on the server goes on.",
  });
  box.append(iconButton("close", "Close", hush));
  place().replaceChildren(box);
}

/** Take away what was told. */
export function hush() {
  place().replaceChildren();
}

/** From now on nothing fails in silence: what nobody caught is told. */
export function watchFaults() {
  addEventListener("unhandledrejection", (event) => {
    if (event.reason instanceof Problem) event.preventDefault(); // no fault of the page's own, for its console
    tell(event.reason);
  });
  addEventListener("error", (event) => { if (event.error) tell(event.error); });
}

function place() {
  return document.getElementById("faults");
}
