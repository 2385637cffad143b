// The options that a request may carry, as form fields. Whatever is left empty is not sent: the server's default holds.

import { h } from "./element.js";

/** What each option does, in a line. The bounds come from the server. */
const ABOUT = {
  seed: "The same seed gives the same video.",
  frames: "Of each segment, both keyframes included.",
  fps: "Frames per second. The model is told it too.",
  gamma: "How much of the beginning is distilled: a share of the steps.",
  k: "How often each of those steps is repeated.",
  lam: "How strongly the start frame's motion is carried into the path that must reach the end: 0 not at all, 1 fully.",
  steps: "Sampling steps. More take longer; past 25 little changes.",
  motion_bucket_id: "How much motion the model is asked for.",
  noise_aug_strength: "Noise on the keyframe that the model sees: more leaves it more freedom.",
  handover: "Share of the early steps in which MPD replaces the host's step.",
  width: "Of the sampled frames, with height.",
  height: "Of the sampled frames, with width.",
  fit: "A keyframe of another shape is cropped, gets bars, or is stretched.",
  background: "Under transparent pixels and of the bars.",
  anchor: "How the end keyframe's error is spread over the frames.",
  guidance: "Guidance scale at the first and at the last frame.",
  loop: "Return to the first keyframe at the end.",
  exact_keyframes: "Show the keyframes' own pixels where a model made its own of them.",
  priority: "Which line the job waits in.",
  reference: "Your own name for the job.",
};
const LABEL = {
  seed: "Seed", frames: "Frames", fps: "Frames / s", gamma: "γ  early share", k: "k  rounds", lam: "λ  strength",
  steps: "Steps", motion_bucket_id: "Motion", noise_aug_strength: "Noise on the keyframe", handover: "Handover",
  width: "Width", height: "Height", fit: "Fit", background: "Background", anchor: "Anchor", guidance: "Guidance",
  loop: "Loop", exact_keyframes: "Exact keyframes", priority: "Priority", reference: "Reference",
};
const FRACTIONS = new Set(["gamma", "lam", "handover", "noise_aug_strength", "guidance"]);
const DEFAULTS = { seed: 0, fps: 7, steps: 25, motion_bucket_id: 127, noise_aug_strength: 0.02 };
const CHOICES = {
  fit: ["cover", "contain", "stretch"],
  anchor: ["rigid", "closure"],
  priority: ["high", "default", "low"],
};

function framed(name, control, extra = []) {
  const hint = h("small", { id: `about-${name}` }, ABOUT[name]);
  control.setAttribute("aria-describedby", `about-${name} fault-${name}`);
  return h("div", { class: "field", "data-field": name },
    h("label", { for: `field-${name}` }, LABEL[name]), control, ...extra, hint,
    h("small", { class: "fault", id: `fault-${name}`, hidden: true }));
}

/** A number within its limits. Empty is the default, which stands there in grey. */
class NumberField {
  constructor(name, limit, slider = false) {
    this.name = name;
    const step = FRACTIONS.has(name) ? "any" : "1";
    const bounds = { min: limit.minimum, max: limit.maximum, step };
    this.input = h("input", { type: "number", id: `field-${name}`, inputmode: "decimal", placeholder: DEFAULTS[name], ...bounds });
    this.slider = slider && h("input", { type: "range", ...bounds, step: FRACTIONS.has(name) ? "0.05" : "1",
      "aria-label": `${LABEL[name]}, as a slider`,
      oninput: () => { this.input.value = this.slider.value; this.#note(); } });
    this.#toDefault = h("button", { type: "button", class: "link", hidden: true,
      onclick: () => { this.write(undefined); this.input.focus(); } }, "default");
    this.input.addEventListener("input", () => this.#note());
    const control = slider ? h("div", { class: "knob" }, this.slider, this.input) : this.input;
    this.element = framed(name, this.input, []);
    if (slider) {
      this.input.replaceWith(control);
      control.append(this.input);
    }
    this.element.querySelector("label").after(this.#toDefault);
    this.fallback(DEFAULTS[name]);
  }

  #toDefault;

  /** The default, as the method or the model has it. */
  fallback(value, words) {
    this.default = value;
    this.input.placeholder = value ?? words ?? "default";
    this.#note();
  }

  #note() {
    this.#toDefault.hidden = this.input.value === "";
    this.#toDefault.textContent = this.default === undefined || this.default === null ? "clear" : `default ${this.default}`;
    if (this.slider) this.slider.value = this.input.value === "" ? this.default ?? 0 : this.input.value;
  }

  read() {
    if (this.input.validity.badInput) return this.input.value;
    return this.input.value === "" ? undefined : Number(this.input.value);
  }

  write(value) {
    this.input.value = value ?? "";
    this.#note();
  }
}

class ChoiceField {
  constructor(name) {
    this.name = name;
    this.input = h("select", { id: `field-${name}` }, h("option", { value: "" }, "default"),
      CHOICES[name].map((value) => h("option", { value }, value)));
    this.element = framed(name, this.input);
  }

  fallback(value) {
    this.input.options[0].textContent = value ? `default (${value})` : "default";
  }

  read() { return this.input.value || undefined; }
  write(value) { this.input.value = value ?? ""; }
}

class TextField {
  constructor(name, type = "text", props = {}) {
    this.name = name;
    this.input = h("input", { type, id: `field-${name}`, ...props });
    this.initial = this.input.value;
    this.element = framed(name, this.input);
  }

  read() { return this.input.value === this.initial ? undefined : this.input.value; }
  write(value) { this.input.value = value ?? this.initial; }
}

class SwitchField {
  constructor(name) {
    this.name = name;
    this.input = h("input", { type: "checkbox", id: `field-${name}`, role: "switch" });
    this.element = framed(name, this.input);
    this.element.classList.add("switch");
  }

  read() { return this.input.checked || undefined; }
  write(value) { this.input.checked = Boolean(value); }
}

/** Two numbers, of the first and the last frame. */
class RampField {
  constructor(name, limit) {
    this.name = name;
    const part = (end) => h("input", { type: "number", min: limit.minimum, max: limit.maximum, step: "any",
      "aria-label": `${LABEL[name]} at the ${end} frame` });
    this.parts = [part("first"), part("last")];
    this.parts[0].id = `field-${name}`;
    const pair = h("div", { class: "ramp" }, ...this.parts);
    this.element = framed(name, pair);
    pair.removeAttribute("aria-describedby");
  }

  fallback(values) {
    this.parts.forEach((part, i) => { part.placeholder = values?.[i] ?? ""; });
  }

  read() {
    const given = this.parts.map((part) => (part.value === "" ? Number(part.placeholder) : Number(part.value)));
    return this.parts.some((part) => part.value !== "") ? given : undefined;
  }

  write(values) { this.parts.forEach((part, i) => { part.value = values?.[i] ?? ""; }); }
}

/** Every field by its name. limits: of `GET /methods`. */
export function makeFields(limits) {
  const number = (name, slider) => new NumberField(name, limits[name === "seed" ? "seeds" : name], slider);
  const fields = [
    ...["seed", "frames", "fps"].map((name) => number(name)),
    ...["gamma", "k", "lam"].map((name) => number(name, true)),
    ...["steps", "motion_bucket_id", "noise_aug_strength", "handover", "width", "height"].map((name) => number(name)),
    ...["fit", "anchor", "priority"].map((name) => new ChoiceField(name)),
    new RampField("guidance", limits.guidance),
    new TextField("background", "color", { value: "#000000" }),
    new SwitchField("loop"),
    new SwitchField("exact_keyframes"),
    new TextField("reference", "text", { maxlength: 200, autocomplete: "off" }),
  ];
  return Object.fromEntries(fields.map((field) => [field.name, field]));
}
