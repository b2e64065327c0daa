import { createSignal } from "solid-js";

export type Theme = "auto" | "light" | "dark";

const kept = localStorage.getItem("teamtalk.theme");
const [theme, set] = createSignal<Theme>(kept === "light" || kept === "dark" ? kept : "auto");
export { theme };

/** nextTheme switches between automatic, light and dark. */
export function nextTheme() {
  set(theme() === "auto" ? "light" : theme() === "light" ? "dark" : "auto");
  localStorage.setItem("teamtalk.theme", theme());
  apply();
}

function apply() {
  document.documentElement.dataset.theme = theme();
}
apply();
