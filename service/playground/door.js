// The field for an API key, where the server asks for one. The key stays in this tab.

import { keep, key, read } from "./api.js";
import { h } from "./element.js";

const WRITTEN = /^[\x21-\x7e]+$/; // what a header can carry

/** The catalogue of methods, once the server lets us in; until then the field is shown in `place`. */
export async function enter(place) {
  for (;;) {
    try {
      const catalogue = await read("methods");
      place.hidden = !key();
      if (key()) place.replaceChildren(leave());
      return catalogue;
    } catch (problem) {
      if (problem.status !== 401 && problem.status !== 403) throw problem;
      await asked(place, key() ? problem.detail : "");
    }
  }
}

/**
 * Shows the field until a key was given.
 * @returns {Promise<void>}
 */
function asked(place, fault) {
  return new Promise((resolve) => {
    const words = h("p", { id: "key-fault", role: "alert" }, fault);
    const input = h("input", { type: "password", id: "api-key", autocomplete: "off", spellcheck: "false",
      placeholder: "ibk_…", "aria-describedby": "key-fault", required: true });
    const form = h("form", { class: "door" }, h("label", { for: "api-key" }, "This server asks for an API key"), input,
      h("button", { type: "submit", class: "primary" }, "Enter"),
      words,
      h("p", { class: "hint" }, "Its operator makes one with ", h("code", {}, "inbetween-server keys create"),
        ". It is kept in this tab alone."));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = input.value.trim();
      if (!WRITTEN.test(given)) {
        words.textContent = "A key is of letters, digits and signs of ASCII alone. Copy it again.";
        return;
      }
      keep(given);
      resolve();
    });
    place.hidden = false;
    place.replaceChildren(form);
    input.focus();
  });
}

function leave() {
  const forget = () => { keep(""); location.reload(); };
  return h("p", { class: "entered" }, `With the key ${key().slice(0, 8)}…`, " ",
    h("button", { type: "button", class: "link", onclick: forget }, "Use another"));
}
