import { DropdownMenu } from "@kobalte/core/dropdown-menu";
import { Tabs } from "@kobalte/core/tabs";
import { createEffect, createMemo, createSignal, Match, on, Show, Switch } from "solid-js";
import { VList } from "virtua/solid";
import type { User } from "../state/types";
import { idOf, type ConvKey } from "../state/types";
import { Avatar } from "./Avatar";
import { Banner } from "./Banner";
import { useApp } from "./context";
import { CreateGroup } from "./GroupDialogs";
import { language, setLanguage, t, type Key } from "./i18n";
import { Icon } from "./Icon";
import { Modal } from "./Modal";
import { askNotifications, notifications } from "./notify";
import { arrows, collator, ContactRow, GroupRow, SessionRow, waitingFiles } from "./rows";
import { nextTheme, theme } from "./theme";

/** Sidebar has the lists from which a conversation is chosen. */
export function Sidebar(props: {
  choose: (key: ConvKey) => void;
  search: (el: HTMLInputElement) => void;
}) {
  const app = useApp();
  const { state } = app.store;
  const [tab, setTab] = createSignal("chats");
  const [query, setQuery] = createSignal("");
  const [creating, setCreating] = createSignal(false);

  const sessions = createMemo(() => {
    const recent = Object.values(state.sessions)
      .sort((a, b) => b.updated - a.updated || b.lastId - a.lastId).map((s) => s.key);
    // A user that sent only a file is first in the list, until the file is fetched.
    const senders = (Object.keys(state.files) as ConvKey[])
      .filter((key) => !state.sessions[key] && waitingFiles(state.files[key]));
    return [...senders, ...recent];
  });
  const unread = () => Object.values(state.sessions).filter((s) => s.unread).length;

  // A user without conversations begins with the contacts.
  createEffect(on(() => state.ready && state.status.kind === "online", (ready) => {
    if (ready && !sessions().length) setTab("contacts");
  }));

  function choose(key: ConvKey) {
    setQuery("");
    props.choose(key);
  }

  return (
    <nav class="sidebar" aria-label={t("chats")}>
      <header>
        <Avatar id={app.me} name={state.me?.nick ?? ""} picture={state.me?.avatar}
          online={state.status.kind === "online"} />
        <span class="title" data-test="me">{state.me?.nick || state.me?.name}</span>
        <button class="tool" aria-label={t("newGroup")} title={t("newGroup")}
          data-test="new-group" onClick={() => setCreating(true)}><Icon name="plus" /></button>
        <Menu />
      </header>
      <Banner />
      <label class="search">
        <Icon name="search" />
        <input type="search" ref={props.search} placeholder={t("search")} aria-label={t("search")}
          data-test="search" value={query()} onInput={(ev) => setQuery(ev.currentTarget.value)}
          onKeyDown={(ev) => {
            if (ev.key === "Escape") setQuery("");
            if (ev.key === "ArrowDown" || ev.key === "Enter") {
              const first = ev.currentTarget.closest("nav")!.querySelector<HTMLElement>(".row");
              if (ev.key === "Enter" && query()) first?.click();
              else first?.focus();
              ev.preventDefault();
            }
          }} />
      </label>
      <Show when={!query().trim()} fallback={<Found query={query()} choose={choose} />}>
        <Tabs class="tabs" value={tab()} onChange={setTab}>
          <Tabs.List class="tablist" aria-label={t("chats")}>
            <Tabs.Trigger value="chats" data-test="tab-chats">
              {t("chats")}
              <Show when={unread()}><span class="badge">{unread()}</span></Show>
            </Tabs.Trigger>
            <Tabs.Trigger value="contacts" data-test="tab-contacts">{t("contacts")}</Tabs.Trigger>
            <Tabs.Trigger value="groups" data-test="tab-groups">{t("groups")}</Tabs.Trigger>
          </Tabs.List>
          <Tabs.Content value="chats" class="panel" tabindex="-1" onKeyDown={arrows}>
            <Show when={sessions().length} fallback={
              <p class="hint">{state.ready ? t("noChats") : t("connecting")}</p>}>
              <VList data={sessions()} itemSize={64} class="list">
                {(key) => <SessionRow conv={key} choose={choose} />}
              </VList>
            </Show>
          </Tabs.Content>
          <Tabs.Content value="contacts" class="panel" tabindex="-1" onKeyDown={arrows}>
            <Contacts choose={choose} />
          </Tabs.Content>
          <Tabs.Content value="groups" class="panel" tabindex="-1" onKeyDown={arrows}>
            <GroupList choose={choose} />
          </Tabs.Content>
        </Tabs>
      </Show>
      <CreateGroup open={creating()} close={() => setCreating(false)} choose={choose} />
    </nav>
  );
}

function Menu() {
  const app = useApp();
  const [sure, setSure] = createSignal(false);
  const themes: Record<string, Key> = { auto: "themeAuto", light: "themeLight", dark: "themeDark" };
  return (
    <>
      <DropdownMenu modal={false} placement="bottom-end">
        <DropdownMenu.Trigger class="tool" aria-label={t("menu")} data-test="menu">
          <Icon name="menu" />
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content class="menu">
            <Show when={notifications() !== "unsupported"}>
              <DropdownMenu.Item class="item" disabled={notifications() !== "default"}
                onSelect={() => void askNotifications()}>
                {t(notifications() === "granted" ? "notificationsOn"
                  : notifications() === "denied" ? "notificationsBlocked" : "notifications")}
              </DropdownMenu.Item>
            </Show>
            <DropdownMenu.Item class="item" closeOnSelect={false} onSelect={nextTheme}>
              {t("theme", { name: t(themes[theme()]!) })}
            </DropdownMenu.Item>
            <DropdownMenu.Item class="item" lang={language() === "zh" ? "en" : "zh"}
              onSelect={() => setLanguage(language() === "zh" ? "en" : "zh")}>
              {t("language")}
            </DropdownMenu.Item>
            <DropdownMenu.Separator class="separator" />
            <DropdownMenu.Item class="item" data-test="sign-out"
              onSelect={() => {
                if (app.unsent()) setTimeout(() => setSure(true));
                else void app.signOut();
              }}>
              {t("signOut")}
            </DropdownMenu.Item>
            <div class="version">{app.config.name} {app.config.version}</div>
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu>
      <Modal open={sure()} close={() => setSure(false)} title={t("signOut")} test="sign-out-sure">
        <p>{t("unsent", { n: app.unsent() })}</p>
        <div class="actions">
          <button class="plain" onClick={() => setSure(false)}>{t("cancel")}</button>
          <button class="danger" onClick={() => void app.signOut()}>{t("signOut")}</button>
        </div>
      </Modal>
    </>
  );
}

/** Contacts are the users by department. */
function Contacts(props: { choose: (key: ConvKey) => void }) {
  const app = useApp();
  const { state } = app.store;
  const [closed, setClosed] = createSignal<ReadonlySet<number>>(new Set());

  const departs = createMemo(() => {
    const members = new Map<number, User[]>();
    for (const u of app.store.everyone()) {
      if (u.gone || u.id === app.me) continue;
      const depart = state.departs[u.depart] ? u.depart : 0;
      const list = members.get(depart);
      if (list) list.push(u);
      else members.set(depart, [u]);
    }
    const order = [...members.keys()].sort((a, b) => (a ? 0 : 1) - (b ? 0 : 1) ||
      (state.departs[a]?.priority ?? 0) - (state.departs[b]?.priority ?? 0) || a - b);
    return order.map((id) => ({ id, users: members.get(id)!
      .sort((a, b) => collator.compare(a.nick || a.name, b.nick || b.name)) }));
  });
  const items = createMemo(() => departs().flatMap((d): string[] => [
    ...(departs().length > 1 || d.id ? [`d${d.id}`] : []),
    ...(closed().has(d.id) ? [] : d.users.map((u) => `u${u.id}`))]));

  function toggle(id: number) {
    const next = new Set(closed());
    if (!next.delete(id)) next.add(id);
    setClosed(next);
  }

  /** path returns the name of a department, behind those above it. */
  function path(id: number): string {
    const names: string[] = [];
    const seen = new Set<number>();
    for (let d = state.departs[id]; d && !seen.has(d.id); d = state.departs[d.parent]) {
      seen.add(d.id);
      names.unshift(d.name);
    }
    return names.join(" / ") || t("noDepart");
  }

  return (
    <VList data={items()} itemSize={48} class="list">
      {(item) => (
        <Switch>
          <Match when={item[0] === "d"}>
            <button class="section" aria-expanded={!closed().has(Number(item.slice(1)))}
              onClick={() => toggle(Number(item.slice(1)))}>
              <Icon name={closed().has(Number(item.slice(1))) ? "up" : "down"} />
              {path(Number(item.slice(1)))}
            </button>
          </Match>
          <Match when={true}>
            <ContactRow id={idOf(item as ConvKey)} choose={props.choose} />
          </Match>
        </Switch>
      )}
    </VList>
  );
}

function GroupList(props: { choose: (key: ConvKey) => void }) {
  const app = useApp();
  const groups = createMemo(() => app.store.allGroups()
    .filter((g) => g.members.includes(app.me))
    .sort((a, b) => collator.compare(a.name, b.name)).map((g) => g.id));
  return (
    <Show when={groups().length} fallback={<p class="hint">{t("noGroups")}</p>}>
      <VList data={groups()} itemSize={48} class="list">
        {(id) => <GroupRow id={id} choose={props.choose} />}
      </VList>
    </Show>
  );
}

/** Found are the users and groups whose names contain a text. */
function Found(props: { query: string; choose: (key: ConvKey) => void }) {
  const app = useApp();
  const found = createMemo(() => {
    const query = props.query.trim().toLowerCase();
    const has = (...texts: string[]) => texts.some((x) => x.toLowerCase().includes(query));
    const users = app.store.everyone()
      .filter((u) => !u.gone && u.id !== app.me && has(u.nick, u.name, u.pinyin))
      .map((u): ConvKey => `u${u.id}`);
    const groups = app.store.allGroups().filter((g) => has(g.name))
      .map((g): ConvKey => `g${g.id}`)
      .filter((key) => app.store.state.sessions[key] || !app.store.outside(key));
    return [...users, ...groups];
  });
  return (
    <div class="panel" onKeyDown={arrows}>
      <Show when={found().length} fallback={<p class="hint">{t("nothingFound")}</p>}>
        <VList data={found()} itemSize={48} class="list">
          {(key) => (key[0] === "u"
            ? <ContactRow id={idOf(key)} choose={props.choose} />
            : <GroupRow id={idOf(key)} choose={props.choose} />)}
        </VList>
      </Show>
    </div>
  );
}
