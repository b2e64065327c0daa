import { createMemo, createSignal, For, Match, Show, Switch, type JSX } from "solid-js";
import { hostOf, safe, segments, type Segment } from "../state/segments";
import type { Upload } from "../state/store";
import type { Content, Message, Pending } from "../state/types";
import { Avatar } from "./Avatar";
import { useApp } from "./context";
import { Icon } from "./Icon";
import { clock, reason, t, type Key } from "./i18n";
import { SoundView } from "./SoundView";

/** Show a picture in full. */
export type View = (src: string) => void;

/** ContentView shows a content as text: nothing in it is markup. */
export function ContentView(props: { content: Content; mark?: string; view: View }) {
  return (
    <Switch>
      <Match when={props.content.kind === "sound" && props.content}>
        {(sound) => <SoundView seconds={sound().seconds} data={sound().data} />}
      </Match>
      <Match when={props.content.kind === "text" && props.content}>
        {(text) => (
          <For each={segments(text().text)}>
            {(s) => <SegmentView segment={s} mark={props.mark} view={props.view} />}
          </For>
        )}
      </Match>
    </Switch>
  );
}

function SegmentView(props: { segment: Segment; mark?: string; view: View }) {
  const s = props.segment;
  if (s.kind === "link")
    return <a href={s.href} target="_blank" rel="noopener noreferrer nofollow">{s.text}</a>;
  if (s.kind === "picture") return <Picture segment={s} view={props.view} />;
  return <Marked text={s.text} mark={props.mark} />;
}

/** Marked is a text whose parts that match a search are marked. */
function Marked(props: { text: string; mark?: string }) {
  const parts = createMemo(() => {
    const mark = props.mark?.trim().toLowerCase();
    const out: JSX.Element[] = [];
    if (!mark) return props.text;
    const lower = props.text.toLowerCase();
    if (lower.length !== props.text.length) return props.text;
    let at = 0;
    for (let found = lower.indexOf(mark); found >= 0; found = lower.indexOf(mark, at)) {
      out.push(props.text.slice(at, found));
      out.push(<mark>{props.text.slice(found, found + mark.length)}</mark>);
      at = found + mark.length;
    }
    out.push(props.text.slice(at));
    return out;
  });
  return <>{parts()}</>;
}

const largest = 280;

type PictureSegment = Extract<Segment, { kind: "picture" }>;

function Picture(props: { segment: PictureSegment; view: View }) {
  const s = props.segment;
  // A scaled picture does not move. Where the server scales none, the whole one is shown.
  const [whole, setWhole] = createSignal(/\.gif$/i.test(s.src));
  const [broken, setBroken] = createSignal(false);
  const scale = Math.min(1, largest / Math.max(s.width, s.height, 1));
  return (
    <Show when={s.src && !broken()} fallback={
      <Show when={safe(s.url)} fallback={`[${t("picture")}]`}>
        <a href={safe(s.url)} target="_blank" rel="noopener noreferrer nofollow">
          {`${t("picture")} (${hostOf(safe(s.url))})`}
        </a>
      </Show>
    }>
      <button class="picture" aria-label={t("picture")} onClick={() => props.view(s.src)}>
        <img src={whole() ? s.src : s.src + "_560x560.jpg"} alt={t("picture")} data-test="picture"
          width={s.width ? Math.max(24, Math.round(s.width * scale)) : undefined}
          height={s.height ? Math.max(24, Math.round(s.height * scale)) : undefined}
          onError={() => (whole() ? setBroken(true) : setWhole(true))} />
      </button>
    </Show>
  );
}

/** Bubble is a stored message. */
export function Bubble(props: {
  message: Message;
  /** The message begins a group of messages of one sender. */
  first: boolean;
  /** The sender's name and avatar are shown: in groups. */
  named: boolean;
  mark?: string;
  found?: boolean;
  view: View;
}) {
  const app = useApp();
  const m = () => props.message;
  const own = () => m().from === app.me;
  return (
    <div class="message" classList={{ own: own(), first: props.first, found: props.found }}
      data-test="message" data-id={m().id} data-state="stored" data-from={m().from}>
      <Show when={props.named && !own()}>
        <Show when={props.first} fallback={<span class="gap" />}>
          <Avatar id={m().from} name={app.store.nick(m().from)} size="small"
            picture={app.store.state.users[m().from]?.avatar} />
        </Show>
      </Show>
      <div class="bubble">
        <Show when={props.named && !own() && props.first}>
          <span class={`sender n${m().from % 8}`}>{app.store.nick(m().from)}</span>
        </Show>
        <span class="content" dir="auto">
          <ContentView content={m().content} mark={props.mark} view={props.view} />
        </span>
        <time>
          {clock(m().time)}
          <Show when={own()}>
            <span role="img" aria-label={t("stored")}><Icon name="check" /></span>
          </Show>
        </time>
      </div>
    </div>
  );
}

const failures: Record<string, Key> = { rejected: "failedRejected",
  unanswered: "failedUnanswered", old: "failedOld" };

/** PendingBubble is a text that the server has not stored. */
export function PendingBubble(props: { pending: Pending; first: boolean; view: View }) {
  const app = useApp();
  const p = () => props.pending;
  const failed = () => p().state === "failed";
  return (
    <div class="message own" classList={{ first: props.first, failed: failed() }}
      data-test="message" data-id="" data-state={p().state}>
      <div class="bubble">
        <span class="content" dir="auto">
          <ContentView content={p().content} view={props.view} />
        </span>
        <time>
          {clock(p().created / 1000)}
          <span role="img" aria-label={t(failed() ? "failed" : "sending")}>
            <Icon name={failed() ? "warning" : "clock"} />
          </span>
        </time>
        <Show when={failed()}>
          <Failed text={t(failures[p().failure ?? "unanswered"]!)} retry={() => void app.retry(p())}
            discard={() => void app.discard(p())} />
        </Show>
      </div>
    </div>
  );
}

/** UploadBubble is a picture on its way to the picture server. */
export function UploadBubble(props: { upload: Upload; retry: () => void; discard: () => void }) {
  const u = () => props.upload;
  const failed = () => u().state === "failed";
  return (
    <div class="message own first" classList={{ failed: failed() }} data-test="message" data-id=""
      data-state={u().state}>
      <div class="bubble">
        <span class="picture" classList={{ busy: !failed() }}>
          <img src={u().preview} alt={t("picture")} />
        </span>
        <time><Icon name={failed() ? "warning" : "clock"} /></time>
        <Show when={failed()}>
          <Failed text={t("failedUpload", { text: reason(u().error) })} retry={props.retry}
            discard={props.discard} />
        </Show>
      </div>
    </div>
  );
}

function Failed(props: { text: string; retry: () => void; discard: () => void }) {
  return (
    <span class="failure">
      {props.text}
      <button class="plain" data-test="retry" onClick={() => props.retry()}>{t("retry")}</button>
      <button class="plain" data-test="discard" onClick={() => props.discard()}>
        {t("discard")}
      </button>
    </span>
  );
}
