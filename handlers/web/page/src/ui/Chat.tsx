import { DropdownMenu } from "@kobalte/core/dropdown-menu";
import { createEffect, createMemo, createSignal, For, on, Show } from "solid-js";
import { idOf, isGroup, type ConvKey } from "../state/types";
import { Avatar } from "./Avatar";
import { Composer, filesOf } from "./Composer";
import { useApp } from "./context";
import { GroupDetails } from "./GroupDialogs";
import { Icon } from "./Icon";
import { t } from "./i18n";
import { MessageList } from "./MessageList";
import { Modal } from "./Modal";
import { summary } from "./rows";

/** Chat is the open conversation. */
export function Chat(props: { conv: ConvKey; back: () => void }) {
  const app = useApp();
  const { state } = app.store;
  const [details, setDetails] = createSignal(false);
  const [searching, setSearching] = createSignal(false);
  const [mark, setMark] = createSignal("");
  const [found, setFound] = createSignal(0);
  const [picture, setPicture] = createSignal("");
  const [dropping, setDropping] = createSignal(false);
  let add: ((files: File[]) => void) | undefined;

  const group = () => (isGroup(props.conv) ? state.groups[idOf(props.conv)] : undefined);
  const user = () => (isGroup(props.conv) ? undefined : state.users[idOf(props.conv)]);
  const typing = () => !isGroup(props.conv) && !!state.typing[idOf(props.conv)];
  const line = () => {
    if (isGroup(props.conv)) return group() ? t("members", { n: group()!.members.length }) : "";
    if (typing()) return t("typing");
    return t(state.online[idOf(props.conv)] ? "online" : "offline");
  };
  const writable = () => !app.store.outside(props.conv);

  createEffect(on(() => props.conv, () => stopSearch()));
  function stopSearch() {
    setSearching(false);
    setMark("");
    setFound(0);
  }

  return (
    <main class="chat" aria-label={app.store.title(props.conv)} data-test="chat"
      data-conv={props.conv} classList={{ dropping: dropping() }}
      onKeyDown={(ev) => {
        if ((ev.ctrlKey || ev.metaKey) && ev.key === "f") {
          ev.preventDefault();
          setSearching(true);
        }
      }}
      onDragOver={(ev) => {
        if (!ev.dataTransfer?.types.includes("Files")) return;
        ev.preventDefault();
        setDropping(true);
      }}
      onDragLeave={(ev) => {
        if (!ev.currentTarget.contains(ev.relatedTarget as Node | null)) setDropping(false);
      }}
      onDrop={(ev) => {
        ev.preventDefault();
        setDropping(false);
        add?.(filesOf(ev.dataTransfer));
      }}>
      <header>
        <button class="tool back" aria-label={t("back")} data-test="back" onClick={props.back}>
          <Icon name="back" />
        </button>
        <h1 class="hidden">{app.store.title(props.conv)}</h1>
        <button class="peer" title={t("details")} data-test="details"
          onClick={() => setDetails(true)}>
          <Avatar id={idOf(props.conv)} name={app.store.title(props.conv)} group={!!group()}
            picture={user()?.avatar} online={isGroup(props.conv) ? undefined
              : !!state.online[idOf(props.conv)]} size="small" />
          <span class="main">
            <span class="title">{app.store.title(props.conv)}</span>
            <span class="text" classList={{ accent: typing() }} data-test="peer-state">
              {line()}
            </span>
          </span>
        </button>
        <button class="tool" aria-label={t("searchChat")} title={t("searchChat")}
          onClick={() => (searching() ? stopSearch() : setSearching(true))}>
          <Icon name="search" />
        </button>
        <ChatMenu conv={props.conv} details={() => setDetails(true)} />
      </header>
      <Show when={searching()}>
        <Search conv={props.conv} mark={mark()} setMark={setMark} found={found()}
          setFound={setFound} close={stopSearch} />
      </Show>
      <Show when={props.conv} keyed>
        {(conv) => <MessageList conv={conv} mark={mark()} found={found()} view={setPicture} />}
      </Show>
      <Show when={writable()} fallback={<p class="hint">{t("notMember")}</p>}>
        <Composer conv={props.conv} picked={(f) => (add = f)} />
      </Show>
      <Show when={dropping()}><div class="drop">{t("dropHere")}</div></Show>
      <Show when={group()}>
        {(g) => <GroupDetails group={g()} open={details()} close={() => setDetails(false)} />}
      </Show>
      <Show when={!isGroup(props.conv)}>
        <UserDetails id={idOf(props.conv)} open={details()} close={() => setDetails(false)} />
      </Show>
      <Modal open={!!picture()} close={() => setPicture("")} title={t("picture")} test="viewer">
        <img class="full" src={picture()} alt={t("picture")} />
        <div class="actions">
          <a class="primary" href={picture()} download={picture().split("/").at(-1)}>
            {t("download")}
          </a>
        </div>
      </Modal>
    </main>
  );
}

function ChatMenu(props: { conv: ConvKey; details: () => void }) {
  const app = useApp();
  return (
    <DropdownMenu modal={false} placement="bottom-end">
      <DropdownMenu.Trigger class="tool" aria-label={t("more")}>
        <Icon name="menu" />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content class="menu">
          <DropdownMenu.Item class="item" onSelect={() => setTimeout(props.details)}>
            {t("details")}
          </DropdownMenu.Item>
          <DropdownMenu.Item class="item" disabled={!app.store.state.sessions[props.conv]}
            onSelect={() => void app.removeSession(props.conv).catch(() => {})}>
            {t("removeChat")}
          </DropdownMenu.Item>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu>
  );
}

/** Search finds a text in the loaded messages of the conversation. */
function Search(props: {
  conv: ConvKey;
  mark: string;
  setMark: (text: string) => void;
  found: number;
  setFound: (id: number) => void;
  close: () => void;
}) {
  const app = useApp();
  const matches = createMemo(() => {
    const mark = props.mark.trim().toLowerCase();
    if (!mark) return [];
    return app.store.chat(props.conv).messages
      .filter((m) => summary(m.content).toLowerCase().includes(mark)).map((m) => m.id);
  });
  const at = () => matches().indexOf(props.found);
  createEffect(on(matches, (ids) => props.setFound(ids.at(-1) ?? 0)));
  function step(by: number) {
    const ids = matches();
    if (ids.length) props.setFound(ids[(at() + by + ids.length) % ids.length]!);
  }
  return (
    <div class="find" role="search">
      <label class="search">
        <Icon name="search" />
        <input type="search" aria-label={t("searchChat")} placeholder={t("searchChat")}
          ref={(el) => setTimeout(() => el.focus())} value={props.mark}
          onInput={(ev) => props.setMark(ev.currentTarget.value)}
          onKeyDown={(ev) => {
            if (ev.key === "Escape") props.close();
            if (ev.key === "Enter") step(ev.shiftKey ? 1 : -1);
          }} />
      </label>
      <span class="text" role="status">
        {props.mark.trim() && (matches().length
          ? t("matches", { n: at() + 1, of: matches().length }) : t("noMatches"))}
      </span>
      <button class="tool" aria-label={t("previous")} onClick={() => step(-1)}>
        <Icon name="up" />
      </button>
      <button class="tool" aria-label={t("next")} onClick={() => step(1)}>
        <Icon name="down" />
      </button>
      <button class="tool" aria-label={t("close")} onClick={props.close}>
        <Icon name="close" />
      </button>
    </div>
  );
}

function UserDetails(props: { id: number; open: boolean; close: () => void }) {
  const app = useApp();
  const user = () => app.store.state.users[props.id];
  const facts = (): [string, string][] => {
    const u = user();
    if (!u) return [];
    return ([[t("name"), u.name], [t("sign"), u.sign], [t("email"), u.email], [t("phone"), u.tel],
      [t("depart"), app.store.state.departs[u.depart]?.name ?? ""]] as [string, string][])
      .filter(([, value]) => value);
  };
  return (
    <Modal open={props.open} close={props.close} title={app.store.nick(props.id)}
      test="user-details">
      <Avatar id={props.id} name={app.store.nick(props.id)} picture={user()?.avatar}
        size="large" />
      <dl>
        <For each={facts()}>
          {([name, value]) => <><dt>{name}</dt><dd dir="auto">{value}</dd></>}
        </For>
      </dl>
    </Modal>
  );
}
