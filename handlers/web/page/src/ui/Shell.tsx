import { createEffect, createSignal, onCleanup, onMount, Show } from "solid-js";
import type { ConvKey } from "../state/types";
import { Ended } from "./Banner";
import { Chat } from "./Chat";
import { useApp } from "./context";
import { t } from "./i18n";
import { announcement, notify } from "./notify";
import { Sidebar } from "./Sidebar";

/** Shell is the page after the login: the lists, and the open conversation. */
export function Shell() {
  const app = useApp();
  const { state } = app.store;
  const [said, setSaid] = createSignal("");
  let search!: HTMLInputElement;

  // The open conversation is in the address, so that Back leaves it on narrow screens.
  const fromAddress = () => {
    const found = /^#([ug]\d{1,10})$/.exec(location.hash);
    app.open(found ? (found[1] as ConvKey) : undefined);
  };
  function choose(key: ConvKey | undefined) {
    const to = key ? "#" + key : location.pathname;
    if (!key || state.open) history.replaceState(history.state, "", to);
    else history.pushState("chosen", "", to);
    app.open(key);
  }

  /** back leaves the conversation, as the browser's own button does. */
  function back() {
    if (history.state === "chosen") history.back();
    else choose(undefined);
  }

  function keys(ev: KeyboardEvent) {
    if ((ev.ctrlKey || ev.metaKey) && ev.key === "k") {
      ev.preventDefault();
      search.focus();
      search.select();
    } else if (ev.key === "Escape" && !ev.defaultPrevented && state.open &&
      !document.querySelector("[role=dialog], [role=menu]") && !(ev.target as HTMLElement).closest(
        "input")) {
      back();
    }
  }

  onMount(() => {
    fromAddress();
    window.addEventListener("popstate", fromAddress);
    window.addEventListener("keydown", keys);
    app.incoming.arrived = (key, m) => {
      notify(app, key, m, () => choose(key));
      setSaid(announcement(app, key, m));
    };
  });
  onCleanup(() => {
    window.removeEventListener("popstate", fromAddress);
    window.removeEventListener("keydown", keys);
    app.incoming.arrived = undefined;
    document.title = app.config.name;
  });
  createEffect(() => {
    const unread = Object.values(state.sessions).reduce((n, s) => n + s.unread, 0);
    document.title = unread ? `(${unread}) ${app.config.name}` : app.config.name;
  });

  return (
    <div class="shell" classList={{ open: !!state.open }} data-test="shell">
      <Sidebar choose={choose} search={(el) => (search = el)} />
      <Show when={state.open} fallback={
        <main class="chat empty">
          <span class="logo" aria-hidden="true" />
          <h1>{t("welcome")}</h1>
          <p>{t("welcomeHint")}</p>
        </main>
      }>
        {(key) => <Chat conv={key()} back={back} />}
      </Show>
      <div class="hidden" role="status" aria-live="polite" data-test="announcement">{said()}</div>
      <Ended />
    </div>
  );
}
