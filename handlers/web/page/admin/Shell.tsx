import { createEffect, createSignal, For, onCleanup, Show, type Component } from "solid-js";
import { Dynamic } from "solid-js/web";
import { language, setLanguage } from "../src/ui/language";
import { nextTheme, theme } from "../src/ui/theme";
import { mayChange, session, signOut } from "./api";
import { Audit } from "./Audit";
import { Departments } from "./Departments";
import { Groups } from "./Groups";
import { failure, t, type Key } from "./i18n";
import { Live } from "./Live";
import { Messages } from "./Messages";
import { Nodes } from "./Nodes";
import { Online } from "./Online";
import { Settings } from "./Settings";
import { Transfers } from "./Transfers";
import { Users } from "./Users";

/** screens are the screens by the fragment of the URL. */
const screens: readonly { name: Key; show: Component; admin?: boolean; messages?: boolean }[] = [
  { name: "live", show: Live },
  { name: "users", show: Users },
  { name: "departments", show: Departments },
  { name: "groups", show: Groups },
  { name: "online", show: Online },
  { name: "nodes", show: Nodes },
  { name: "transfers", show: Transfers },
  { name: "settings", show: Settings },
  { name: "audit", show: Audit, admin: true },
  { name: "messages", show: Messages, admin: true, messages: true },
];

/** Shell has the list of the screens and the chosen one. */
export function Shell() {
  const chosen = () => location.hash.slice(2).split("?")[0];
  const [name, setName] = createSignal(chosen());
  const follow = () => setName(chosen());
  addEventListener("hashchange", follow);
  onCleanup(() => removeEventListener("hashchange", follow));

  const [problem, setProblem] = createSignal("");
  const leave = () => signOut().catch((err) => setProblem(failure(err)));

  const allowed = () => screens.filter((s) =>
    (!s.admin || mayChange()) && (!s.messages || session()?.messages));
  const screen = () => allowed().find((s) => s.name === name()) ?? allowed()[0]!;
  // On a narrow screen the list of the screens is wider than it.
  let list!: HTMLUListElement;
  createEffect(() => {
    screen();
    list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  const themes: Record<string, Key> = { auto: "themeAuto", light: "themeLight", dark: "themeDark" };

  return (
    <div class="frame">
      <nav aria-label={t("title")}>
        <div class="brand"><span class="logo" aria-hidden="true" />{t("title")}</div>
        <ul ref={list}>
          <For each={allowed()}>
            {(s) => (
              <li>
                <a href={"#/" + s.name} data-test={"nav-" + s.name}
                  aria-current={s === screen() ? "page" : undefined}>{t(s.name)}</a>
              </li>
            )}
          </For>
        </ul>
        <div class="me">
          <span class="text" data-test="me" data-role={session()?.role}>
            {t("signedInAs", { name: session()!.name,
              role: t(mayChange() ? "roleAdmin" : "roleReader") })}
          </span>
          <span class="text">{session()!.process} {session()!.version}</span>
          <button class="plain" onClick={nextTheme}>
            {t("theme", { name: t(themes[theme()]!) })}
          </button>
          <button class="plain" onClick={() => setLanguage(language() === "zh" ? "en" : "zh")}>
            {t("language")}
          </button>
          <button class="plain" data-test="sign-out" onClick={() => void leave()}>
            {t("signOut")}
          </button>
          <p class="problem" role="alert">{problem()}</p>
        </div>
      </nav>
      <Show when={screen()} keyed>{(s) => <Dynamic component={s.show} />}</Show>
    </div>
  );
}
