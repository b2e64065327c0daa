import { createSignal, Match, onCleanup, Show, Switch } from "solid-js";
import type { Reason, Status } from "../net/link";
import { useApp } from "./context";
import { refusal, t, whyBusy } from "./i18n";

/** whyDown says why there is no connection. */
export function whyDown(reason: Reason): string {
  switch (reason.kind) {
    case "refused":
      return refusal(reason.text);
    case "outdated":
      return reason.text || t("outdated");
    case "busy":
      return whyBusy(reason.text);
    case "kicked":
      return reason.text ? refusal(reason.text) : t("kickedText");
    case "phone":
      return reason.text ? refusal(reason.text) : t("phoneKicked");
    case "silent":
      return t("whySilent");
    case "unreachable":
      return t("whyUnreachable");
    case "closed":
      if (reason.code === 1001) return t("whyDrain");
      if (reason.code === 1013) return t("whySlow");
      return reason.text ? t("whyClosedText", { text: reason.text }) : t("whyClosed");
  }
}

type Waiting = Extract<Status, { kind: "waiting" }>;

/** Banner says above the conversations that the page is not connected, and why. */
export function Banner() {
  const app = useApp();
  const { state } = app.store;
  const [now, setNow] = createSignal(Date.now());
  const timer = setInterval(() => setNow(Date.now()), 1000);
  onCleanup(() => clearInterval(timer));
  const waiting = () => (state.status.kind === "waiting" ? (state.status as Waiting) : undefined);
  return (
    <div role="status" class="status">
      <Switch>
        <Match when={state.status.kind === "connecting"}>
          <p class="banner" data-test="banner">
            {t("reason" in state.status && state.status.reason ? "reconnecting" : "connecting")}
          </p>
        </Match>
        <Match when={waiting()}>
          {(w) => (
            <p class="banner bad" data-test="banner">
              <span>
                {t("waiting", { why: whyDown(w().reason),
                  n: Math.max(0, Math.ceil((w().until - now()) / 1000)) })}
              </span>
              <button class="plain" onClick={() => app.link.retry()}>{t("connectNow")}</button>
            </p>
          )}
        </Match>
      </Switch>
    </div>
  );
}

/** Ended covers the page when it does not connect again by itself. */
export function Ended() {
  const app = useApp();
  const { state } = app.store;
  const ended = () => (state.status.kind === "ended" ? state.status.reason : undefined);
  return (
    <Switch>
      <Match when={state.elsewhere}>
        <Cover title={t("elsewhere")} text={t("elsewhereText")} action={t("useHere")}
          test="take-over" act={() => void app.takeOver()} />
      </Match>
      <Match when={ended()}>
        {(reason) => (
          <Cover title={t("kicked")} text={whyDown(reason())} test="kicked"
            action={reason().kind === "outdated" ? t("reload") : t("signInHere")}
            act={() => (reason().kind === "outdated" ? location.reload() : app.link.retry())} />
        )}
      </Match>
    </Switch>
  );
}

function Cover(props: {
  title: string;
  text: string;
  action: string;
  test: string;
  act: () => void;
}) {
  const app = useApp();
  return (
    <div class="cover" role="alertdialog" aria-labelledby="cover-title"
      aria-describedby="cover-text">
      <div class="card" data-test={props.test}>
        <h2 id="cover-title">{props.title}</h2>
        <p id="cover-text">{props.text}</p>
        <button class="primary" ref={(el) => setTimeout(() => el.focus())} data-test="cover-action"
          onClick={() => props.act()}>
          {props.action}
        </button>
        <Show when={props.test === "kicked"}>
          <button class="plain" onClick={() => void app.signOut()}>{t("signOut")}</button>
        </Show>
      </div>
    </div>
  );
}
