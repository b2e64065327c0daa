import { createSignal } from "solid-js";
import { kept } from "./kept";

export type Theme = "auto" | "light" | "dark";

const before = kept.load("teamtalk.theme");
const [theme, set] = createSignal<Theme>(before === "light" || before === "dark" ? before : "auto");
export { theme };

/** nextTheme switches between automatic, light and dark. */
export function nextTheme() {
  set(theme() === "auto" ? "light" : theme() === "light" ? "dark" : "auto");
  kept.save("teamtalk.theme", theme());
  apply();
}

function apply() {
  document.documentElement.dataset.theme = theme();
}
apply();
