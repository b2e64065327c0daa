import { createMemo, createSignal, For, Show } from "solid-js";
import { VList } from "virtua/solid";
import { GroupRefused } from "../state/groups";
import { plainName } from "../state/store";
import type { ConvKey, Group } from "../state/types";
import { Avatar } from "./Avatar";
import { useApp } from "./context";
import { Icon } from "./Icon";
import { t } from "./i18n";
import { Modal } from "./Modal";
import { collator } from "./rows";

/** why returns the text of an error of a change. */
function why(err: unknown): string {
  if (!(err instanceof GroupRefused)) return t("groupNoAnswer");
  return t(err.message === "offline" ? "groupOffline" : "groupRefused");
}

/** Picker chooses users from all that are not left out. */
function Picker(props: {
  without: number[];
  chosen: number[];
  change: (ids: number[]) => void;
}) {
  const app = useApp();
  const [query, setQuery] = createSignal("");
  const users = createMemo(() => {
    const out = new Set([...props.without, app.me]);
    const wanted = query().trim().toLowerCase();
    return app.store.everyone()
      .filter((u) => !u.gone && !out.has(u.id) &&
        [u.nick, u.name, u.pinyin].some((x) => x.toLowerCase().includes(wanted)))
      .sort((a, b) => collator.compare(a.nick || a.name, b.nick || b.name)).map((u) => u.id);
  });
  function toggle(id: number, on: boolean) {
    props.change(on ? [...props.chosen, id] : props.chosen.filter((one) => one !== id));
  }
  return (
    <>
      <label class="search">
        <Icon name="search" />
        <input type="search" placeholder={t("search")} aria-label={t("search")} value={query()}
          onInput={(ev) => setQuery(ev.currentTarget.value)} />
      </label>
      <VList data={users()} itemSize={44} class="list picker">
        {(id) => (
          <label class="row slim" data-test="pick" data-user={app.store.state.users[id]?.name}>
            <input type="checkbox" checked={props.chosen.includes(id)}
              onChange={(ev) => toggle(id, ev.currentTarget.checked)} />
            <Avatar id={id} name={app.store.nick(id)} size="small"
              picture={app.store.state.users[id]?.avatar} />
            <span class="title">{app.store.nick(id)}</span>
          </label>
        )}
      </VList>
    </>
  );
}

/** CreateGroup asks for the name and the members of a new group. */
export function CreateGroup(props: {
  open: boolean;
  close: () => void;
  choose: (key: ConvKey) => void;
}) {
  const app = useApp();
  const [name, setName] = createSignal("");
  const [chosen, setChosen] = createSignal<number[]>([]);
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const title = () => plainName(name()) ||
    [app.me, ...chosen()].map((id) => app.store.nick(id)).slice(0, 4).join(", ").slice(0, 60);

  async function create(ev: SubmitEvent) {
    ev.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      const key = await app.groups.create(title(), chosen());
      setName("");
      setChosen([]);
      props.close();
      props.choose(key);
    } catch (err) {
      setProblem(why(err));
    } finally {
      setBusy(false);
    }
  }

  return (
    <Modal open={props.open} close={props.close} title={t("newGroup")} test="create-group">
      <form onSubmit={create}>
        <label>
          {t("groupName")}
          <input data-test="group-name" maxlength="60" value={name()} placeholder={title()}
            onInput={(ev) => setName(ev.currentTarget.value)} />
        </label>
        <Picker without={[]} chosen={chosen()} change={setChosen} />
        <p class="problem" role="alert">{problem()}</p>
        <button class="primary" data-test="group-create" disabled={busy() || !chosen().length}>
          {t("create")}
        </button>
      </form>
    </Modal>
  );
}

/** GroupDetails shows the members of a group, adds and removes some, and leaves it. */
export function GroupDetails(props: { group: Group; open: boolean; close: () => void }) {
  const app = useApp();
  const { state } = app.store;
  const [adding, setAdding] = createSignal(false);
  const [leaving, setLeaving] = createSignal(false);
  const [chosen, setChosen] = createSignal<number[]>([]);
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const member = () => props.group.members.includes(app.me);

  async function run(change: () => Promise<void>): Promise<boolean> {
    setBusy(true);
    setProblem("");
    try {
      await change();
      return true;
    } catch (err) {
      setProblem(why(err));
      return false;
    } finally {
      setBusy(false);
    }
  }

  async function add() {
    if (!(await run(() => app.groups.add(props.group.id, chosen())))) return;
    setChosen([]);
    setAdding(false);
  }

  async function leave() {
    if (await run(() => app.groups.leave(props.group.id))) props.close();
    setLeaving(false);
  }

  return (
    <Modal open={props.open} close={props.close} title={props.group.name} test="group-details">
      <Show when={!adding()} fallback={
        <>
          <Picker without={props.group.members} chosen={chosen()} change={setChosen} />
          <p class="problem" role="alert">{problem()}</p>
          <div class="actions">
            <button class="plain" onClick={() => setAdding(false)}>{t("cancel")}</button>
            <button class="primary" data-test="group-add" disabled={busy() || !chosen().length}
              onClick={() => void add()}>{t("add")}</button>
          </div>
        </>
      }>
        <div class="members">
          <For each={props.group.members}>
            {(id) => (
              <div class="row slim" data-test="member" data-user={state.users[id]?.name}>
                <Avatar id={id} name={app.store.nick(id)} picture={state.users[id]?.avatar}
                  online={!!state.online[id]} size="small" />
                <span class="title">{app.store.nick(id)}</span>
                <Show when={id === props.group.creator}>
                  <span class="tag">{t("creator")}</span>
                </Show>
                <Show when={id !== app.me && member() && app.groups.mayRemove(props.group, id)}>
                  <button class="plain small" disabled={busy()} data-test="member-remove"
                    aria-label={t("remove", { name: app.store.nick(id) })}
                    onClick={() => void run(() => app.groups.remove(props.group.id, [id]))}>
                    {t("removeShort")}
                  </button>
                </Show>
              </div>
            )}
          </For>
        </div>
        <p class="problem" role="alert">
          {problem() || (member() ? "" : t("notMember"))}
        </p>
        <Show when={member()}>
          <Show when={!leaving()} fallback={
            <div class="actions">
              <p>{t("leaveSure")}</p>
              <button class="plain" onClick={() => setLeaving(false)}>{t("cancel")}</button>
              <button class="danger" data-test="group-leave-sure" disabled={busy()}
                onClick={() => void leave()}>{t("leave")}</button>
            </div>
          }>
            <div class="actions">
              <button class="plain bad" data-test="group-leave" onClick={() => setLeaving(true)}>
                {t("leave")}
              </button>
              <button class="primary" data-test="group-add-open" onClick={() => setAdding(true)}>
                {t("addMembers")}
              </button>
            </div>
          </Show>
        </Show>
      </Show>
    </Modal>
  );
}
