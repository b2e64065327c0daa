import { createSignal } from "solid-js";
import { kept } from "./kept";

export type Language = "en" | "zh";

function first(): Language {
  const chosen = kept.load("teamtalk.language");
  if (chosen === "en" || chosen === "zh") return chosen;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

const [language, set] = createSignal<Language>(first());
export { language };

/** setLanguage switches the language of the page, and keeps it for the next visit. */
export function setLanguage(next: Language) {
  set(next);
  document.documentElement.lang = next;
  kept.save("teamtalk.language", next);
}
document.documentElement.lang = language();

/** translator returns the function of a page that returns its texts, with values in place of
 * {names}. */
export function translator<K extends string>(en: Record<K, string>, zh: Record<K, string>) {
  return (key: K, values: Record<string, string | number> = {}): string => {
    const text = (language() === "zh" ? zh : en)[key];
    return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
  };
}

/** locale is that of numbers and times. */
export const locale = () => (language() === "zh" ? "zh-CN" : navigator.language.startsWith("en")
  ? navigator.language : "en-GB");

const formats = new Map<string, Intl.DateTimeFormat>();

/** format returns a time for readers. To make a format takes longer than to draw a message. */
export function format(time: Date, options: Intl.DateTimeFormatOptions): string {
  const name = locale() + JSON.stringify(options);
  let made = formats.get(name);
  if (!made) formats.set(name, (made = new Intl.DateTimeFormat(locale(), options)));
  return made.format(time);
}

/** size returns a number of bytes for readers. */
export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  let n = bytes;
  for (; n >= 1024 && unit < 3; unit++) n /= 1024;
  return `${n.toLocaleString(locale(), { maximumFractionDigits: n < 10 && unit ? 1 : 0 })} ${
    units[unit]}`;
}
