import { createEffect, createSignal, For, on, onMount, Show } from "solid-js";
import { maxPicture } from "../net/http";
import { canRecord, type Recorded } from "../sound/recorder";
import { drafts } from "../state/saved";
import { maxFile } from "../state/files";
import { isGroup, type ConvKey } from "../state/types";
import { useApp } from "./context";
import { Icon } from "./Icon";
import { t } from "./i18n";
import { RecordBar } from "./RecordBar";

const [changes, setChanges] = createSignal(0);

/** draftOf returns the draft of a conversation for the list; "" while it is open. */
export function draftOf(user: number, key: ConvKey): string {
  changes();
  return drafts.load(user, key).trim();
}

function isPicture(file: File): boolean {
  return /^image\/(png|jpe?g|gif|webp)$/.test(file.type);
}

/** filesOf returns the files of a drop or a paste. */
export function filesOf(data: DataTransfer | null): File[] {
  return data ? [...data.files] : [];
}

/** Composer takes the text and the pictures that the user sends. */
export function Composer(props: { conv: ConvKey; picked: (add: (files: File[]) => void) => void }) {
  const app = useApp();
  const [text, setText] = createSignal("");
  const [files, setFiles] = createSignal<{ file: File; url: string }[]>([]);
  const [problem, setProblem] = createSignal("");
  // Files go from user to user only.
  const takesFiles = () => app.config.files && !isGroup(props.conv);
  const [recording, setRecording] = createSignal(false);
  let area!: HTMLTextAreaElement;
  let chooser!: HTMLInputElement;

  createEffect(on(() => props.conv, (key) => {
    setText(drafts.load(app.me, key));
    for (const f of files()) URL.revokeObjectURL(f.url);
    setFiles([]);
    setProblem("");
    setRecording(false);
    if (matchMedia("(hover: hover)").matches) area.focus();
  }));
  createEffect(on(text, grow));
  onMount(() => props.picked(add));

  /** grow fits the field to its text. */
  function grow() {
    area.style.height = "0";
    area.style.height = Math.min(area.scrollHeight, 180) + "px";
  }

  function input(value: string) {
    if (value.length > text().length) app.typing(props.conv);
    setText(value);
    drafts.save(app.me, props.conv, value);
  }

  function add(list: File[]) {
    setProblem("");
    const good = list.filter((file) => {
      if (!isPicture(file)) {
        if (takesFiles() && file.size > 0 && file.size <= maxFile) return true;
        const why = takesFiles() ? "fileTooLarge" : app.config.files ? "fileGroup" : "notPicture";
        setProblem(t(why, { name: file.name }));
      } else if (file.size > maxPicture) setProblem(t("tooLarge", { name: file.name }));
      else return true;
      return false;
    });
    setFiles([...files(), ...good.map((file) => ({ file, url: URL.createObjectURL(file) }))]);
    area.focus();
  }

  /** sendTo returns the function that sends a sound to a conversation, also once it is closed. */
  const sendTo = (key: ConvKey) => (sound: Recorded) => void app.sendSound(key, sound);

  function drop(url: string) {
    URL.revokeObjectURL(url);
    setFiles(files().filter((f) => f.url !== url));
  }

  function send() {
    const body = text().trim();
    if (!body && !files().length) return;
    for (const f of files()) {
      URL.revokeObjectURL(f.url);
      if (isPicture(f.file)) void app.sendPicture(props.conv, f.file);
      else void app.files.send(props.conv, f.file);
    }
    setFiles([]);
    setProblem("");
    if (body) void app.send(props.conv, body);
    setText("");
    drafts.save(app.me, props.conv, "");
    setChanges(changes() + 1);
    area.focus();
  }

  return (
    <form class="composer" onSubmit={(ev) => {
      ev.preventDefault();
      send();
    }}>
      <Show when={problem()}><p class="problem" role="alert">{problem()}</p></Show>
      <Show when={files().length}>
        <div class="previews">
          <For each={files()}>
            {(f) => (
              <span class="preview">
                <Show when={isPicture(f.file)} fallback={
                  <span class="name"><Icon name="file" />{f.file.name}</span>}>
                  <img src={f.url} alt={f.file.name} />
                </Show>
                <button type="button" aria-label={t("discard")} onClick={() => drop(f.url)}>
                  <Icon name="close" />
                </button>
              </span>
            )}
          </For>
        </div>
      </Show>
      <Show when={recording()}>
        <RecordBar close={() => {
          setRecording(false);
          area.focus();
        }} send={sendTo(props.conv)} />
      </Show>
      <div class="line" hidden={recording()}>
        <button type="button" class="tool" onClick={() => chooser.click()}
          aria-label={t(takesFiles() ? "addFile" : "addPicture")}
          title={t(takesFiles() ? "addFile" : "addPicture")}>
          <Icon name={takesFiles() ? "attach" : "picture"} />
        </button>
        <input ref={chooser} type="file" multiple hidden
          accept={takesFiles() ? undefined : "image/png,image/jpeg,image/gif,image/webp"}
          data-test="picture-input" onChange={(ev) => {
            add([...(ev.currentTarget.files ?? [])]);
            ev.currentTarget.value = "";
          }} />
        <textarea ref={area} rows={1} dir="auto" data-test="conversation-input" value={text()}
          aria-label={t("writeTo", { name: app.store.title(props.conv) })}
          placeholder={t("message")}
          onInput={(ev) => input(ev.currentTarget.value)}
          onBlur={() => setChanges(changes() + 1)}
          onPaste={(ev) => {
            const pasted = filesOf(ev.clipboardData);
            if (!pasted.length) return;
            ev.preventDefault();
            add(pasted);
          }}
          onKeyDown={(ev) => {
            // Enter chooses a word while an input method is composing.
            if (ev.key !== "Enter" || ev.shiftKey || ev.isComposing || ev.keyCode === 229) return;
            ev.preventDefault();
            send();
          }} />
        <Show when={!text().trim() && !files().length && canRecord()}>
          <button type="button" class="tool" aria-label={t("record")} title={t("record")}
            data-test="record" onClick={() => setRecording(true)}><Icon name="mic" /></button>
        </Show>
        <button class="tool send" aria-label={t("send")} title={t("send")} data-test="send"
          disabled={!text().trim() && !files().length}><Icon name="send" /></button>
      </div>
    </form>
  );
}
