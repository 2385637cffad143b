// The options that a request may carry, as form fields: drawn from what `GET /methods` says of each. Whatever is left
// empty is not sent: the server's default holds.

import { h } from "./element.js";

const ROOM = 12; // characters that a number's field has room for
const STEPS = 20; // of a slider of fractions, from one end to the other

function framed(option, control, extra = []) {
  const { name, label, hint } = option;
  control.setAttribute("aria-describedby", `about-${name} fault-${name}`);
  return h("div", { class: "field", "data-field": name, title: option.unset && `Default: ${option.unset}` },
    h("label", { for: `field-${name}` }, label), control, ...extra, h("small", { id: `about-${name}` }, hint),
    h("small", { class: "fault", id: `fault-${name}`, hidden: true }));
}

/** A number within its limits. Empty is the default, which stands there in grey. */
class NumberField {
  constructor(option) {
    this.option = option;
    const { name, limit, label } = option;
    const whole = option.kind === "integer";
    const slider = option.group === "distillation" && limit;
    const bounds = { min: limit?.minimum, max: limit?.maximum, step: whole ? "1" : "any" };
    this.input = h("input", { type: "number", id: `field-${name}`, inputmode: "decimal", ...bounds });
    this.slider = slider && h("input", { type: "range", ...bounds,
      step: whole ? 1 : (limit.maximum - limit.minimum) / STEPS, "aria-label": `${label}, as a slider`,
      oninput: () => { this.input.value = this.slider.value; this.#note(); } });
    this.#toDefault = h("button", { type: "button", class: "link", hidden: true,
      onclick: () => { this.write(undefined); this.input.focus(); } }, "default");
    this.input.addEventListener("input", () => this.#note());
    const control = slider ? h("div", { class: "knob" }, this.slider, this.input) : this.input;
    this.element = framed(option, this.input);
    if (slider) {
      this.input.replaceWith(control);
      control.append(this.input);
    }
    this.element.querySelector("label").after(this.#toDefault);
    this.fallback(option.default, option.unset?.length <= ROOM ? option.unset : undefined);
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
  constructor(option) {
    this.option = option;
    this.input = h("select", { id: `field-${option.name}` }, h("option", { value: "" }, "default"),
      option.choices.map((value) => h("option", { value }, value)));
    this.element = framed(option, this.input);
    this.fallback(option.default);
  }

  fallback(value) {
    this.input.options[0].textContent = value ? `default (${value})` : "default";
  }

  read() { return this.input.value || undefined; }
  write(value) { this.input.value = value ?? ""; }
}

class TextField {
  constructor(option) {
    this.option = option;
    const colour = option.kind === "colour";
    const props = { type: colour ? "color" : "text", maxlength: option.size?.maximum, autocomplete: "off" };
    this.input = h("input", { id: `field-${option.name}`, ...props, value: option.default ?? "" });
    this.initial = this.input.value;
    this.element = framed(option, this.input);
  }

  read() { return this.input.value === this.initial ? undefined : this.input.value; }
  write(value) { this.input.value = value ?? this.initial; }
}

class SwitchField {
  constructor(option) {
    this.option = option;
    const id = `field-${option.name}`;
    this.input = h("input", { type: "checkbox", id, role: "switch", checked: option.default });
    this.element = framed(option, this.input);
    this.element.classList.add("switch");
  }

  read() { return this.input.checked === this.option.default ? undefined : this.input.checked; }
  write(value) { this.input.checked = value ?? this.option.default; }
}

/** Two numbers, of the first and the last frame. */
class RampField {
  constructor(option) {
    this.option = option;
    const { name, limit, label } = option;
    const part = (end) => h("input", { type: "number", min: limit.minimum, max: limit.maximum, step: "any",
      "aria-label": `${label} at the ${end} frame` });
    this.parts = [part("first"), part("last")];
    this.parts[0].id = `field-${name}`;
    const pair = h("div", { class: "ramp" }, ...this.parts);
    this.element = framed(option, pair);
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

const KINDS = {
  integer: NumberField, number: NumberField, choice: ChoiceField, numbers: RampField, colour: TextField, text: TextField,
  boolean: SwitchField,
};

/** What the page asks for by other means, or cannot ask for: it does not put keyframes at frames. */
function drawn({ name, kind, group }) {
  return kind in KINDS && name !== "method" && group !== "timeline";
}

/** Every field by its option's name. options: of `GET /methods`. */
export function makeFields(options) {
  return Object.fromEntries(options.filter(drawn).map((option) => [option.name, new KINDS[option.kind](option)]));
}
