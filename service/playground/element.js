// DOM elements in one expression. Knows nothing of what they mean; never parses HTML.

/**
 * An element with its attributes, listeners and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {object} props `onclick` and the like are listeners; undefined, null and false leave an attribute out
 * @param {...any} children nodes or text; null, undefined and false are left out
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in node) node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A picture that says nothing of its own; `words` stand for it where the browser cannot show it. */
export function picture(src, words, props = {}) {
  const image = h("img", { src, alt: "", ...props, onerror: () => image.replaceWith(h("span", { class: "unshown" }, words)) });
  return image;
}

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: "M8 5.5v13l11-6.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  back: "M15 6l-6 6 6 6",
  forward: "M9 6l6 6-6 6",
  close: "M6.5 6.5l11 11M17.5 6.5l-11 11",
  plus: "M12 5v14M5 12h14",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M9 15h.01M15 15h.01M12 12h.01",
  moon: "M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  auto: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 4v16M14 8h4.5M14 12h6M14 16h4.5",
  download: "M12 4v11M7.5 11l4.5 4.5L16.5 11M5 19.5h14",
  arrow: "M4 12h15M13.5 6.5L19 12l-5.5 5.5",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
};
const FILLED = new Set(["play", "pause"]);

/** A drawing of 20 pixels that screen readers pass over. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "0 0 24 24", width: 20, height: 20, "aria-hidden": "true", class: "glyph" };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, String(value));
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  path.setAttribute("class", FILLED.has(name) ? "filled" : "stroked");
  svg.append(path);
  return svg;
}

/** A button that shows an icon alone, under a name that is read and shown on hovering. */
export function iconButton(name, label, onclick, props = {}) {
  const classes = `quiet icon ${props.class ?? ""}`;
  return h("button", { type: "button", ...props, class: classes, "aria-label": label, title: label, onclick }, icon(name));
}
