import { createSignal, For, Show } from "solid-js";
import { get, mayChange, send, session, type Setting } from "./api";
import { failure, maybe, t } from "./i18n";
import { Check, createLoad, Page, SearchField, Table } from "./parts";

/** Settings shows the settings of the process and where they come from, and changes the level of
 * its log. */
export function Settings() {
  const list = createLoad(async () =>
    (await get<{ settings: Setting[] }>("/v1/settings")).settings);
  const [text, setText] = createSignal("");
  const [changed, setChanged] = createSignal(false);
  const shown = () => (list.data() ?? []).filter((s) =>
    (!changed() || s.origin !== "default") &&
    (s.key + " " + s.value).toLowerCase().includes(text().trim().toLowerCase()));
  const effect = (s: Setting) => t(s.reloads === "reloads" ? "atReload"
    : s.reloads ? "atFileReload" : "atRestart");
  return (
    <Page title={t("settings")} hint={t("settingsHint", { name: session()!.process })}
      problem={list.problem()} reload={list.reload}>
      <LogLevel />
      <div class="filters">
        <SearchField value={text()} change={setText} />
        <Check label={t("onlyChanged")} name="only-changed" value={changed()} change={setChanged} />
      </div>
      <Table rows={shown()} test="setting" id={(s) => s.key} columns={[
        { name: t("setting"), cell: (s) => <code>{s.key}</code> },
        { name: t("value"), cell: (s) => <code class="value">{s.value}</code> },
        { name: t("origin"), cell: (s) => maybe("or_", s.origin) },
        { name: t("effect"), cell: effect },
      ]} />
    </Page>
  );
}

/** LogLevel shows the level of the log, and sets it. */
function LogLevel() {
  const level = createLoad(async () => (await get<{ level: string }>("/v1/log")).level);
  const [note, setNote] = createSignal("");
  const [problem, setProblem] = createSignal("");
  async function set(next: string) {
    setNote("");
    setProblem("");
    try {
      const got = await send<{ level: string }>("PUT", "/v1/log", { level: next });
      setNote(t("logLevelSet", { level: got.level }));
    } catch (err) {
      setProblem(failure(err));
    }
    await level.reload();
  }
  return (
    <fieldset class="panel-box level" disabled={!mayChange()}>
      <legend>{t("logLevel")}</legend>
      <For each={["debug", "info", "warn", "error"]}>
        {(one) => (
          <label class="check">
            <input type="radio" name="level" data-test={"level-" + one} value={one}
              checked={level.data() === one} onChange={() => void set(one)} />
            {one}
          </label>
        )}
      </For>
      <Show when={mayChange()}><span class="text">{t("logLevelHint")}</span></Show>
      <span role="status" data-test="level-note">{note()}</span>
      <span class="problem" role="alert">{problem() || level.problem()}</span>
    </fieldset>
  );
}
