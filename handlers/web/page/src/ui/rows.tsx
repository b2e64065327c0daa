import { Show } from "solid-js";
import type { FileEntry } from "../state/files";
import { segments } from "../state/segments";
import { idOf, isGroup, type Content, type ConvKey } from "../state/types";
import { Avatar } from "./Avatar";
import { useApp } from "./context";
import { shortDate, t } from "./i18n";
import { draftOf } from "./Composer";

/** collator orders names: Chinese ones by their pinyin, and before others. */
export const collator = new Intl.Collator(["zh-CN", "en"], { numeric: true });

/** summary returns a content as one line of plain text. */
export function summary(c: Content): string {
  if (c.kind === "sound")
    return `[${c.seconds ? t("sound", { n: c.seconds }) : t("soundShort")}]`;
  return segments(c.text).map((s) => (s.kind === "picture" ? `[${t("picture")}]` : s.text))
    .join("").replace(/\s+/g, " ").trim();
}

/** waitingFiles counts the files that wait for this user. */
export function waitingFiles(list: readonly FileEntry[] | undefined): number {
  return list?.filter((f) => f.state === "waiting").length ?? 0;
}

/** SessionRow is a recent conversation in the list. */
export function SessionRow(props: { conv: ConvKey; choose: (key: ConvKey) => void }) {
  const app = useApp();
  const { state } = app.store;
  const session = () => state.sessions[props.conv];
  const user = () => (isGroup(props.conv) ? undefined : state.users[idOf(props.conv)]);
  const typing = () => !isGroup(props.conv) && state.typing[idOf(props.conv)];
  const files = () => waitingFiles(state.files[props.conv]);
  const failed = () => state.pending[props.conv]?.some((p) => p.state === "failed");
  const line = () => {
    const s = session();
    if (files()) return t("filesWait", { n: files() });
    if (!s) return "";
    if (app.store.outside(props.conv)) return t("notMember");
    if (isGroup(props.conv) && !s.lastId)
      return t("members", { n: state.groups[idOf(props.conv)]?.members.length ?? 0 });
    // Between two users the server's lists name the peer as the sender in any case.
    if (!isGroup(props.conv)) return summary(s.last);
    const name = s.lastFrom === app.me ? t("you") : app.store.nick(s.lastFrom);
    return t("said", { name, text: summary(s.last) });
  };
  return (
    <button class="row" classList={{ chosen: state.open === props.conv }}
      aria-current={state.open === props.conv ? "true" : undefined}
      data-test={isGroup(props.conv) ? "group" : "contact"} data-conv={props.conv}
      data-user={user()?.name} onClick={() => props.choose(props.conv)}>
      <Avatar id={idOf(props.conv)} name={app.store.title(props.conv)} group={isGroup(props.conv)}
        picture={user()?.avatar}
        online={isGroup(props.conv) ? undefined : !!state.online[idOf(props.conv)]} />
      <span class="main">
        <span class="line">
          <span class="title">{app.store.title(props.conv)}</span>
          <time>{session() ? shortDate(session()!.updated) : ""}</time>
        </span>
        <span class="line">
          <Show when={!typing()} fallback={<span class="text accent">{t("typing")}</span>}>
            <span class="text" dir="auto">
              <Show when={failed()}><b class="bad">! </b></Show>
              <Show when={draftOf(app.me, props.conv)} fallback={line()}>
                {(text) => <><span class="accent">✎ </span>{text()}</>}
              </Show>
            </span>
          </Show>
          <Show when={session()?.unread}>
            {(n) => (
              <span class="badge" data-test="unread" aria-label={t("unread", { n: n() })}>
                {n() > 99 ? "99+" : n()}
              </span>
            )}
          </Show>
        </span>
      </span>
    </button>
  );
}

/** ContactRow is a user in a list. */
export function ContactRow(props: { id: number; choose: (key: ConvKey) => void }) {
  const app = useApp();
  const { state } = app.store;
  const user = () => state.users[props.id];
  const online = () => !!state.online[props.id];
  const key = (): ConvKey => `u${props.id}`;
  return (
    <button class="row slim" classList={{ chosen: state.open === key() }} data-test="contact"
      aria-current={state.open === key() ? "true" : undefined}
      data-user={user()?.name} data-conv={key()} onClick={() => props.choose(key())}>
      <Avatar id={props.id} name={app.store.nick(props.id)} picture={user()?.avatar}
        online={online()} size="small" />
      <span class="main">
        <span class="title">{app.store.nick(props.id)}</span>
        <span class="text" dir="auto">{user()?.sign || t(online() ? "online" : "offline")}</span>
      </span>
    </button>
  );
}

/** GroupRow is a group in a list. */
export function GroupRow(props: { id: number; choose: (key: ConvKey) => void }) {
  const app = useApp();
  const { state } = app.store;
  const key = (): ConvKey => `g${props.id}`;
  return (
    <button class="row slim" classList={{ chosen: state.open === key() }} data-test="group"
      aria-current={state.open === key() ? "true" : undefined}
      data-conv={key()} onClick={() => props.choose(key())}>
      <Avatar id={props.id} name={app.store.title(key())} group size="small" />
      <span class="main">
        <span class="title">{app.store.title(key())}</span>
        <span class="text">{t("members", { n: state.groups[props.id]?.members.length ?? 0 })}</span>
      </span>
    </button>
  );
}

/** arrows moves the focus between the rows of a list with the arrow keys. */
export function arrows(ev: KeyboardEvent & { currentTarget: HTMLElement }) {
  if (ev.key !== "ArrowDown" && ev.key !== "ArrowUp") return;
  const rows = [...ev.currentTarget.querySelectorAll<HTMLElement>(".row, .section")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  const next = rows[ev.key === "ArrowDown" ? at + 1 : at - 1];
  if (at < 0 || !next) return;
  ev.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}
