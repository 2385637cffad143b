// Light, dark, or as the system has it. Kept in this browser.

import { icon } from "./element.js";

const KEPT = "inbetween.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const ICON = { auto: "auto", light: "sun", dark: "moon" };
const NAME = { auto: "as the system", light: "light", dark: "dark" };

export function mountTheme(button) {
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.replaceChildren(icon(ICON[theme]));
    button.setAttribute("aria-label", `Colours: ${NAME[theme]}. Change to ${NAME[NEXT[theme]]}`);
    button.title = `Colours: ${NAME[theme]}`;
  };
  show(localStorage.getItem(KEPT) ?? "auto");
  button.addEventListener("click", () => {
    const theme = NEXT[document.documentElement.dataset.theme];
    localStorage.setItem(KEPT, theme);
    show(theme);
  });
}
