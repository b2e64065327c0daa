import { createEffect, createSignal, on, Show } from "solid-js";
import { picturePath } from "../state/segments";

interface Props {
  /** Chooses the colour. */
  id: number;
  name: string;
  /** The URL of a picture, or "". */
  picture?: string;
  group?: boolean;
  online?: boolean;
  size?: "small" | "large";
}

/** Avatar is a picture, or the first letters of a name on a colour. */
export function Avatar(props: Props) {
  const [broken, setBroken] = createSignal(false);
  const src = () => (props.picture ? picturePath(props.picture) : "");
  createEffect(on(src, () => setBroken(false)));
  // One attribute: a change of class would remove the names that classList has set.
  const look = () =>
    `avatar c${props.id % 8} ${props.size ?? ""} ${props.group ? "group" : ""}`;
  return (
    <span class={look()} aria-hidden="true">
      <Show when={src() && !broken()} fallback={initials(props.name)}>
        <img src={src() + "_100x100.jpg"} alt="" loading="lazy" onError={() => setBroken(true)} />
      </Show>
      <Show when={props.online !== undefined}>
        <span class="dot" classList={{ on: props.online }} />
      </Show>
    </span>
  );
}

/** initials returns one Chinese character, or up to two letters. */
function initials(name: string): string {
  const chars = [...name.trim()];
  if (!chars.length) return "?";
  if (/[\u2e80-\u9fff]/.test(name)) return chars.filter((c) => /[\u2e80-\u9fff]/.test(c)).at(-1)!;
  const words = name.trim().split(/[\s._-]+/);
  return (chars[0]! + (words[1] ? [...words[1]][0]! : "")).toUpperCase();
}
