import { Match, Show, Switch } from "solid-js";
import type { FileEntry } from "../state/files";
import type { ConvKey } from "../state/types";
import { useApp } from "./context";
import { Icon } from "./Icon";
import { reason, size, t } from "./i18n";

/** FileView is a file that is sent, or that waits for this user. */
export function FileView(props: { conv: ConvKey; entry: FileEntry }) {
  const app = useApp();
  const e = () => props.entry;
  const dismiss = () => app.files.dismiss(props.conv, e());
  return (
    <div class="message first" classList={{ own: e().own, failed: e().state === "failed" }}
      data-test="file" data-state={e().state} data-name={e().name}>
      <div class="bubble file">
        <span class="round"><Icon name="file" /></span>
        <span class="main">
          <span class="title" dir="auto">{e().name}</span>
          <span class="text">{size(e().size)}</span>
          <Show when={e().direct && e().state === "waiting"}>
            <span class="text">{t("fileDirect")}</span>
          </Show>
        </span>
        <Switch>
          <Match when={e().state === "moving"}>
            <progress max="1" value={e().progress} aria-label={e().name} />
          </Match>
          <Match when={e().state === "waiting"}>
            <span class="actions">
              <button class="plain" data-test="file-delete" onClick={dismiss}>
                {t(e().direct ? "decline" : "discard")}
              </button>
              <button class="plain" data-test="file-download"
                onClick={() => void app.files.fetch(props.conv, e())}>{t("download")}</button>
            </span>
          </Match>
          <Match when={e().state === "done"}>
            <span class="text state">{t(e().own ? "fileSent" : "fileFetched")}</span>
          </Match>
          <Match when={e().state === "failed"}>
            <span class="failure" role="alert">
              {t("fileFailed", { text: reason(e().error) })}
              <Show when={!e().own || e().file}>
                <button class="plain" data-test="retry" onClick={() => void (e().own
                  ? app.files.send(props.conv, e().file!, e())
                  : app.files.fetch(props.conv, e()))}>{t("retry")}</button>
              </Show>
              <button class="plain" onClick={dismiss}>{t("discard")}</button>
            </span>
          </Match>
        </Switch>
      </div>
    </div>
  );
}
