/** Light or dark: the system's choice, until somebody makes another one. */

import { byId } from "./elements.js";
import { keep, kept } from "./storage.js";

const PLACE = "paliserve-theme";

/** Let the button switch. */
export function beginTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = kept("localStorage", PLACE);
  let other = "dark";
  const tell = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    if (chosen) document.documentElement.dataset.theme = chosen;
    other = dark ? "light" : "dark";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colours`);
  };
  button.addEventListener("click", () => {
    chosen = other;
    keep("localStorage", PLACE, chosen);
    tell();
  });
  system.addEventListener("change", tell);
  tell();
}
