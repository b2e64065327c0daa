import {
  createEffect,
  createMemo,
  createSignal,
  Match,
  on,
  onCleanup,
  onMount,
  Show,
  Switch,
} from "solid-js";
import { Virtualizer, type VirtualizerHandle } from "virtua/solid";
import type { FileEntry } from "../state/files";
import type { Upload } from "../state/store";
import { isGroup, type ConvKey, type Message, type Pending } from "../state/types";
import { Bubble, PendingBubble, UploadBubble, type View } from "./Bubble";
import { useApp } from "./context";
import { FileView } from "./FileView";
import { Icon } from "./Icon";
import { day, dayNumber, t } from "./i18n";

type Row =
  | { kind: "start"; id: string }
  | { kind: "day"; id: string; time: number }
  | { kind: "divider"; id: string }
  | { kind: "message"; id: string; message: Message; first: boolean }
  | { kind: "pending"; id: string; pending: Pending; first: boolean }
  | { kind: "upload"; id: string; upload: Upload }
  | { kind: "file"; id: string; entry: FileEntry };

/** Messages of one sender within this time are one group, in seconds. */
const groupWithin = 300;
/** Closer to the end than this the list follows new messages, in pixels. */
const nearEnd = 60;
/** Closer to the start than this older messages are loaded, in pixels. */
const nearStart = 600;

/** MessageList shows a conversation, and loads older messages as the user scrolls up. */
export function MessageList(props: {
  conv: ConvKey;
  /** Marks this text, and shows the message with this id. */
  mark: string;
  found: number;
  view: View;
}) {
  const app = useApp();
  const { state } = app.store;
  const chat = () => app.store.chat(props.conv);
  const shown = createMemo(() => chat().messages);
  const divider = createMemo(() => chat().divider);
  const complete = createMemo(() => chat().complete);
  const [handle, setHandle] = createSignal<VirtualizerHandle>();
  const [below, setBelow] = createSignal(false); // the end is out of sight
  const [missed, setMissed] = createSignal(0);
  let following = true;
  let placed = false;
  let height = 0; // of the content, when the list last went to the end
  let scroller!: HTMLDivElement;

  // Rows keep their identity while they are equal, so that the list keeps their elements.
  const kept = new Map<string, Row>();
  const list = createMemo((before: { rows: Row[]; shift: boolean }) => {
    const rows = rowsOf().map((row) => {
      const same = kept.get(row.id);
      if (same && equal(same, row)) return same;
      kept.set(row.id, row);
      return row;
    });
    const old = before.rows;
    const shift = old.length > 0 && rows.length > old.length && rows.at(-1) === old.at(-1) &&
      rows[1]?.id !== old[1]?.id;
    return { rows, shift };
  }, { rows: [], shift: false });

  function rowsOf(): Row[] {
    const rows: Row[] = [];
    const messages = shown();
    const unread = divider();
    if (complete() && messages.length) rows.push({ kind: "start", id: "start" });
    let last: Message | undefined;
    let today = 0;
    for (const m of messages) {
      const date = dayNumber(m.time);
      const newDay = !last || today !== date;
      today = date;
      if (newDay) rows.push({ kind: "day", id: "day" + date, time: m.time });
      if (m.id === unread) rows.push({ kind: "divider", id: "divider" });
      const first = newDay || m.id === unread || last!.from !== m.from ||
        m.time - last!.time > groupWithin;
      rows.push({ kind: "message", id: "m" + m.id, message: m, first });
      last = m;
    }
    let own = last?.from === app.me;
    for (const pending of state.pending[props.conv] ?? []) {
      rows.push({ kind: "pending", id: "p" + pending.cmid, pending, first: !own });
      own = true;
    }
    for (const upload of state.uploads[props.conv] ?? [])
      rows.push({ kind: "upload", id: "u" + upload.id, upload });
    for (const entry of state.files[props.conv] ?? [])
      rows.push({ kind: "file", id: "f" + entry.id, entry });
    return rows;
  }

  function toEnd() {
    scroller.scrollTop = scroller.scrollHeight;
    height = scroller.scrollHeight;
    following = true;
    setBelow(false);
    setMissed(0);
  }

  function scrolled() {
    // Rows that are measured change the height. The user has not scrolled then.
    if (following && scroller.scrollHeight !== height) return toEnd();
    const left = scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
    following = left < nearEnd;
    setBelow(left > nearEnd);
    if (following) {
      height = scroller.scrollHeight;
      setMissed(0);
    }
    more();
  }

  // New rows: the list stays at the end if it was there, or if the user has sent something.
  createEffect(on(() => list().rows, (rows, before) => {
    if (!rows.length) return;
    const last = rows.at(-1)!;
    const appended = before?.length && last !== before.at(-1);
    const sent = appended && (last.kind === "pending" || last.kind === "upload" ||
      last.kind === "file" && last.entry.own);
    if (appended && !following && last.kind === "message" && last.message.from !== app.me)
      setMissed(missed() + 1);
    queueMicrotask(() => {
      if (!placed) place(rows);
      else if (following || sent) toEnd();
      requestAnimationFrame(() => {
        if (following) toEnd();
        more();
      });
    });
  }));

  /** more loads older messages if the list is near its start. */
  function more() {
    if (scroller.scrollTop < nearStart) void app.history.older(props.conv);
  }

  // Those of the cache may be all: then no new rows follow when the server has said so.
  createEffect(on(() => chat().synced, (synced) => {
    if (!synced) return;
    queueMicrotask(() => {
      if (!placed && list().rows.length) place(list().rows);
      requestAnimationFrame(more);
    });
  }));

  /** place shows the first unread message, or the end. */
  function place(rows: Row[]) {
    if (!chat().synced && !chat().messages.length) return;
    placed = chat().synced;
    const at = rows.findIndex((row) => row.kind === "divider");
    if (at < 0) return toEnd();
    following = false;
    handle()?.scrollToIndex(at, { align: "start", offset: -80 });
  }

  createEffect(on(divider, (unread) => {
    if (unread) placed = false;
    if (unread) queueMicrotask(() => place(list().rows));
  }, { defer: true }));

  createEffect(on(() => props.found, (id) => {
    const at = list().rows.findIndex((row) => row.id === "m" + id);
    if (at >= 0) handle()?.scrollToIndex(at, { align: "center" });
  }, { defer: true }));

  // The end stays in sight when rows are measured, when the field for the text grows, and when
  // the window changes.
  onMount(() => {
    const watch = new ResizeObserver(() => following && toEnd());
    watch.observe(scroller);
    watch.observe(scroller.lastElementChild!);
    onCleanup(() => watch.disconnect());
  });

  return (
    <div class="messages">
      <div class="scroller" ref={scroller} tabindex="0" role="log" aria-live="off"
        aria-label={t("message")} onScroll={scrolled}>
        <div class="spacer" />
        <Virtualizer ref={setHandle} data={list().rows} shift={list().shift} bufferSize={600}
          itemSize={44}>
          {(row) => <RowView row={row} conv={props.conv} mark={props.mark} found={props.found}
            view={props.view} />}
        </Virtualizer>
      </div>
      <Show when={chat().loading}><p class="loading" aria-hidden="true"><span /></p></Show>
      <Show when={chat().synced && !list().rows.length}>
        <p class="hint centre">{t("noMessages")}</p>
      </Show>
      <Show when={chat().failed}>
        <p class="banner bad floating">
          {t("loadFailed")}
          <button class="plain" onClick={() => void (chat().synced
            ? app.history.older(props.conv) : app.history.newest(props.conv))}>{t("retry")}</button>
        </p>
      </Show>
      <Show when={below()}>
        <button class="jump" aria-label={t("toNewest")} title={t("toNewest")} data-test="to-newest"
          onClick={toEnd}>
          <Icon name="down" />
          <Show when={missed()}><span class="badge">{missed()}</span></Show>
        </button>
      </Show>
    </div>
  );
}

function equal(a: Row, b: Row): boolean {
  switch (a.kind) {
    case "message":
      return b.kind === "message" && a.message === b.message && a.first === b.first;
    case "pending":
      return b.kind === "pending" && a.pending === b.pending && a.first === b.first;
    case "upload":
      return b.kind === "upload" && a.upload === b.upload;
    case "file":
      return b.kind === "file" && a.entry === b.entry;
    default:
      return a.kind === b.kind;
  }
}

function RowView(props: { row: Row; conv: ConvKey; mark: string; found: number; view: View }) {
  const app = useApp();
  return (
    <Switch>
      <Match when={props.row.kind === "message" && props.row}>
        {(row) => <Bubble message={row().message} first={row().first} named={isGroup(props.conv)}
          mark={props.mark} found={props.found === row().message.id} view={props.view} />}
      </Match>
      <Match when={props.row.kind === "pending" && props.row}>
        {(row) => <PendingBubble pending={row().pending} first={row().first} view={props.view} />}
      </Match>
      <Match when={props.row.kind === "upload" && props.row}>
        {(row) => <UploadBubble upload={row().upload}
          retry={() => void app.sendPicture(props.conv, row().upload.file, row().upload.id)}
          discard={() => app.dropUpload(props.conv, row().upload.id)} />}
      </Match>
      <Match when={props.row.kind === "file" && props.row}>
        {(row) => <FileView conv={props.conv} entry={row().entry} />}
      </Match>
      <Match when={props.row.kind === "day" && props.row}>
        {(row) => <p class="day"><span>{day(row().time)}</span></p>}
      </Match>
      <Match when={props.row.kind === "divider"}>
        <p class="day new" data-test="divider"><span>{t("newMessages")}</span></p>
      </Match>
      <Match when={props.row.kind === "start"}>
        <p class="day start" data-test="beginning"><span>{t("beginning")}</span></p>
      </Match>
    </Switch>
  );
}
