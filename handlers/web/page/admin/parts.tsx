import { createEffect, createSignal, For, onCleanup, Show, type JSX } from "solid-js";
import { Icon } from "../src/ui/Icon";
import { Modal } from "../src/ui/Modal";
import { Failure } from "./api";
import { failure, t } from "./i18n";
import { inLanguage } from "./said";

/** Loaded is the answer of a call that is made again when what it depends on changes. */
export interface Loaded<T> {
  data: () => T | undefined;
  problem: () => string;
  busy: () => boolean;
  reload: () => Promise<void>;
}

/** createLoad makes a call now, and again when a signal changes that it reads before its first
 * await. The answer of an older call never replaces that of a newer one. */
export function createLoad<T>(run: () => Promise<T>): Loaded<T> {
  const [data, setData] = createSignal<T>();
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  let latest = 0;

  async function follow(answer: Promise<T>) {
    const mine = ++latest;
    setBusy(true);
    try {
      const got = await answer;
      if (mine !== latest) return;
      setData(() => got);
      setProblem("");
    } catch (err) {
      if (mine === latest) setProblem(failure(err));
    } finally {
      if (mine === latest) setBusy(false);
    }
  }
  createEffect(() => void follow(run()));
  onCleanup(() => latest++);
  return { data, problem, busy, reload: () => follow(run()) };
}

/** createPages loads pages of a list as it is scrolled, beginning anew when a signal changes that
 * page reads. */
export function createPages<T>(page: (after: number) => Promise<{ rows: T[]; next: number }>) {
  const [rows, setRows] = createSignal<T[]>([]);
  const [next, setNext] = createSignal(0);
  const first = createLoad(() => page(0));
  createEffect(() => {
    const got = first.data();
    setRows(got?.rows ?? []);
    setNext(got?.next ?? 0);
  });
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);

  async function more() {
    const begun = first.data();
    if (!next() || busy()) return;
    setBusy(true);
    setProblem("");
    try {
      const got = await page(next());
      if (begun !== first.data()) return; // another search has begun
      setRows([...rows(), ...got.rows]);
      setNext(got.next);
    } catch (err) {
      setProblem(failure(err));
    } finally {
      setBusy(false);
    }
  }
  return { rows, next, more, reload: first.reload, busy: () => first.busy() || busy(),
    problem: () => first.problem() || problem() };
}

/** createDelayed returns a signal that follows another one once it has rested. */
export function createDelayed(from: () => string): () => string {
  const [value, set] = createSignal(from());
  createEffect(() => {
    const next = from();
    const timer = setTimeout(() => set(next), 250);
    onCleanup(() => clearTimeout(timer));
  });
  return value;
}

/** repeat calls a function regularly while the page is visible. */
export function repeat(seconds: number, call: () => unknown) {
  const timer = setInterval(() => document.hidden || call(), seconds * 1000);
  onCleanup(() => clearInterval(timer));
}

/** Page is the frame of a screen: its title, its tools, and a problem of its call. */
export function Page(props: {
  title: string;
  hint?: string;
  problem?: string;
  reload?: () => unknown;
  busy?: boolean;
  tools?: JSX.Element;
  children: JSX.Element;
}) {
  return (
    <main class="page" aria-busy={props.busy}>
      <header>
        <h1>{props.title}</h1>
        <div class="tools">
          {props.tools}
          <Show when={props.reload}>
            <button class="plain" data-test="refresh" onClick={() => props.reload!()}>
              {t("refresh")}
            </button>
          </Show>
        </div>
      </header>
      <Show when={props.hint}><p class="about">{props.hint}</p></Show>
      <p class="problem" role="alert" data-test="problem">{props.problem}</p>
      {props.children}
    </main>
  );
}

/** SearchField is a field for a search. */
export function SearchField(props: { value: string; change: (text: string) => void }) {
  return (
    <label class="search">
      <Icon name="search" />
      <input type="search" placeholder={t("search")} aria-label={t("search")} data-test="search"
        value={props.value} onInput={(ev) => props.change(ev.currentTarget.value)} />
    </label>
  );
}

/** Field is a field of a form. */
export function Field(props: {
  label: string;
  name: string;
  value: string;
  change: (text: string) => void;
  hint?: string;
  type?: string;
  required?: boolean;
}) {
  return (
    <label>
      {props.label}
      <input name={props.name} data-test={"field-" + props.name} type={props.type ?? "text"}
        value={props.value} required={props.required} placeholder={props.hint ?? ""}
        autocomplete="off" spellcheck={false}
        onInput={(ev) => props.change(ev.currentTarget.value)} />
    </label>
  );
}

/** Choice is a list from which one of a few words is chosen. */
export function Choice(props: {
  label: string;
  name: string;
  value: string;
  options: (readonly [value: string, text: string])[];
  change: (value: string) => void;
  bare?: boolean;
}) {
  const list = () => (
    <select data-test={"field-" + props.name} aria-label={props.label}
      onChange={(ev) => props.change(ev.currentTarget.value)}>
      <For each={props.options}>
        {([value, text]) => <option value={value} selected={value === props.value}>{text}</option>}
      </For>
    </select>
  );
  return <Show when={!props.bare} fallback={list()}><label>{props.label}{list()}</label></Show>;
}

export function Check(props: { label: string; name: string; value: boolean;
  change: (on: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" data-test={"field-" + props.name} checked={props.value}
        onChange={(ev) => props.change(ev.currentTarget.checked)} />
      {props.label}
    </label>
  );
}

/** Form is a form in a dialog: it runs when it is sent, and shows why that failed. */
export function Form(props: {
  submit: string;
  danger?: boolean;
  run: () => Promise<void>;
  cancel?: () => void;
  ready?: boolean;
  children?: JSX.Element;
}) {
  const [busy, setBusy] = createSignal(false);
  const [problem, setProblem] = createSignal("");
  const [lines, setLines] = createSignal<string[]>([]);

  async function submit(ev: SubmitEvent) {
    ev.preventDefault();
    if (busy()) return;
    setBusy(true);
    setProblem("");
    setLines([]);
    try {
      await props.run();
    } catch (err) {
      const lines = err instanceof Failure ? err.problems : [];
      setProblem(lines.length ? t("problems") : failure(err));
      setLines(lines);
    } finally {
      setBusy(false);
    }
  }

  return (
    <form onSubmit={submit} aria-busy={busy()}>
      {props.children}
      <p class="problem" role="alert" data-test="form-problem">{problem()}</p>
      <Show when={lines().length}>
        <ul class="problems" data-test="problems">
          <For each={lines()}>{(line) => <li>{inLanguage(line)}</li>}</For>
        </ul>
      </Show>
      <div class="actions">
        <Show when={props.cancel}>
          <button type="button" class="plain" onClick={() => props.cancel!()}>
            {t("cancel")}
          </button>
        </Show>
        <button class={props.danger ? "danger" : "primary"} data-test="submit"
          disabled={busy() || props.ready === false}>{props.submit}</button>
      </div>
    </form>
  );
}

/** Question is an action that is to be confirmed, with what it does. */
export interface Question {
  title: string;
  text: string;
  action: string;
  danger?: boolean;
  run: () => Promise<unknown>;
}

/** Confirm asks before an action. */
export function Confirm(props: { question?: Question; close: () => void }) {
  return (
    <Show when={props.question}>
      {(q) => (
        <Modal open close={props.close} title={q().title} test="confirm">
          <Form submit={q().action} danger={q().danger} cancel={props.close} run={async () => {
            await q().run();
            props.close();
          }}>
            <p>{q().text}</p>
          </Form>
        </Modal>
      )}
    </Show>
  );
}

/** Secret shows a text that the page shows once. */
export function Secret(props: { text: string; value: string }) {
  const [copied, setCopied] = createSignal(false);
  return (
    <div class="secret">
      <p>{props.text}</p>
      <textarea readonly rows={Math.min(8, props.value.split("\n").length)} data-test="secret"
        aria-label={props.text} value={props.value} onFocus={(ev) => ev.currentTarget.select()} />
      <Show when={navigator.clipboard}>
        <button type="button" class="plain" onClick={async () => {
          // Where the browser forbids it, the text can be marked and copied by hand.
          await navigator.clipboard.writeText(props.value).then(() => setCopied(true), () => {});
        }}>{copied() ? t("copied") : t("copy")}</button>
      </Show>
    </div>
  );
}

/** Table is rows of cells with a head. Narrow screens show a row as a block, in which each cell has
 * the name of its column. */
export function Table<T>(props: {
  rows: T[];
  columns: { name: string; cell: (row: T) => JSX.Element }[];
  empty?: string;
  test?: string;
  id?: (row: T) => string | number;
}) {
  return (
    <Show when={props.rows.length} fallback={<p class="hint">{props.empty ?? t("nothing")}</p>}>
      <div class="scroll">
        <table>
          <thead>
            <tr><For each={props.columns}>{(c) => <th>{c.name}</th>}</For></tr>
          </thead>
          <tbody>
            <For each={props.rows}>
              {(row) => (
                <tr data-test={props.test} data-id={props.id?.(row)}>
                  <For each={props.columns}>
                    {(c) => <td data-name={c.name}>{c.cell(row)}</td>}
                  </For>
                </tr>
              )}
            </For>
          </tbody>
        </table>
      </div>
    </Show>
  );
}
