import { createEffect, createSignal, on, Show } from "solid-js";
import { VList } from "virtua/solid";
import { Modal } from "../src/ui/Modal";
import { byId, get, mayChange, send, type Group, type User } from "./api";
import { maybe, moment, t } from "./i18n";
import { names } from "./lists";
import { Choice, Confirm, createDelayed, createLoad, createPages, Field, Form, Page, SearchField,
  type Question } from "./parts";

const pageSize = 200;

/** Groups finds groups, and opens one of them. */
export function Groups() {
  const [text, setText] = createSignal("");
  const [opened, setOpened] = createSignal<number>();
  const [adding, setAdding] = createSignal(false);
  const search = createDelayed(text);
  const pages = createPages(async (after) => {
    const got = await get<{ groups: Group[]; next: number }>("/v1/groups",
      { search: search(), after, limit: pageSize });
    return { rows: got.groups, next: got.next };
  });
  createEffect(on(pages.rows, (rows) => {
    if (!rows.length && pages.next()) void pages.more();
  }));

  return (
    <Page title={t("groups")} problem={pages.problem()} busy={pages.busy()} reload={pages.reload}
      tools={
        <Show when={mayChange()}>
          <button class="primary" data-test="add-group" onClick={() => setAdding(true)}>
            {t("addGroup")}
          </button>
        </Show>
      }>
      <div class="filters"><SearchField value={text()} change={setText} /></div>
      <Show when={pages.rows().length} fallback={
        <p class="hint">{pages.busy() ? t("loading") : t("nothing")}</p>}>
        <div class="rows groups head" aria-hidden="true">
          <span>{t("id")}</span><span>{t("name")}</span><span>{t("members")}</span>
          <span>{t("type")}</span><span>{t("lastChat")}</span>
        </div>
        <VList data={pages.rows()} itemSize={44} class="list" onScroll={(offset) => {
          if (offset > (pages.rows().length - 60) * 44) void pages.more();
        }}>
          {(g) => (
            <button class="rows groups" data-test="group" data-name={g.name}
              onClick={() => setOpened(g.id)}>
              <span class="dim">{g.id}</span>
              <span class="title">{g.name}</span>
              <span>{g.count}</span>
              <span class="dim">{maybe("ty_", g.type)}</span>
              <span class="cut dim">{moment(g.last_chat)}</span>
            </button>
          )}
        </VList>
        <footer>
          {t("count", { n: pages.rows().length })}
          <Show when={pages.next()}>
            <button class="plain" onClick={() => void pages.more()}>{t("more")}</button>
          </Show>
        </footer>
      </Show>
      <Show when={opened()} keyed>
        {(id) => <GroupPanel id={id} close={() => setOpened(undefined)}
          changed={() => void pages.reload()} />}
      </Show>
      <Show when={adding()}>
        <AddGroup close={() => setAdding(false)} done={() => void pages.reload()} />
      </Show>
    </Page>
  );
}

/** GroupPanel shows a group with its members, and changes it. */
function GroupPanel(props: { id: number; close: () => void; changed: () => void }) {
  const path = "/v1/groups/" + props.id;
  const loaded = createLoad(async () => {
    const group = await get<Group>(path);
    const ids = group.members ?? [];
    const users: User[] = [];
    for (let i = 0; i < ids.length; i += 500) {
      users.push(...(await get<{ users: User[] }>("/v1/users",
        { ids: ids.slice(i, i + 500).join(",") })).users);
    }
    return { group, users };
  });
  const [question, setQuestion] = createSignal<Question>();
  const [note, setNote] = createSignal("");
  const [adding, setAdding] = createSignal("");
  const [name, setName] = createSignal("");
  createEffect(() => setName(loaded.data()?.group.name ?? ""));

  async function done(told: boolean, text: string) {
    setNote(told ? text : `${text} ${t("notTold")}`);
    await loaded.reload();
    props.changed();
  }

  async function change(body: { add?: string[]; remove?: string[] }) {
    const got = await send<{ told: boolean }>("POST", path + "/members", body);
    await done(got.told, t("done"));
  }

  function dissolve(g: Group): Question {
    return { title: `${t("dissolve")}: ${g.name}`, action: t("dissolve"), danger: true,
      text: t("dissolveSure", { name: g.name, n: g.count }), run: async () => {
        const got = await send<{ told: boolean }>("DELETE", path);
        await done(got.told, t("dissolved"));
      } };
  }

  const remove = (g: Group, u: User): Question => ({
    title: `${t("remove")}: ${u.nick || u.name}`, action: t("remove"), danger: true,
    text: t("removeMemberSure", { name: u.nick || u.name, group: g.name }),
    run: () => change({ remove: [byId(u.id)] }),
  });

  return (
    <Modal open side close={props.close} title={loaded.data()?.group.name ?? ""} test="group-panel">
      <p class="problem" role="alert">{loaded.problem()}</p>
      <Show when={loaded.data()}>
        {(l) => (
          <>
            <dl>
              <dt>{t("id")}</dt><dd>{l().group.id}</dd>
              <dt>{t("type")}</dt><dd>{maybe("ty_", l().group.type)}</dd>
              <dt>{t("creator")}</dt><dd>{nameOf(l().users, l().group.creator)}</dd>
              <dt>{t("created")}</dt><dd>{moment(l().group.created)}</dd>
              <dt>{t("lastChat")}</dt><dd>{moment(l().group.last_chat) || t("none")}</dd>
              <dt>{t("members")}</dt><dd data-test="member-count">{l().group.count}</dd>
            </dl>
            <p role="status" data-test="note">{note()}</p>
            <Show when={mayChange()}>
              <Form submit={t("rename")}
                ready={!!name().trim() && name() !== l().group.name} run={async () => {
                  await send("PATCH", path, { name: name().trim() });
                  await done(true, t("done"));
                }}>
                <Field label={t("name")} name="group-name" value={name()} change={setName} />
              </Form>
              <Form submit={t("add")} ready={names(adding()).length > 0} run={async () => {
                  await change({ add: names(adding()) });
                  setAdding("");
                }}>
                <Field label={`${t("add")}: ${t("members")}`} name="add-members" value={adding()}
                  change={setAdding} hint={t("membersHint")} />
              </Form>
            </Show>
            <VList data={l().users} itemSize={40} class="list members">
              {(u) => (
                <div class="rows member" data-test="member" data-user={u.name}>
                  <span class="dim">{u.id}</span>
                  <span class="cut">{u.nick} <span class="dim">{u.name}</span></span>
                  <span class="row-actions">
                    <Show when={mayChange()}>
                      <button class="plain bad" onClick={() => setQuestion(remove(l().group, u))}>
                        {t("remove")}</button>
                    </Show>
                  </span>
                </div>
              )}
            </VList>
            <Show when={mayChange() && l().group.count}>
              <div class="actions">
                <button class="plain bad" data-test="dissolve"
                  onClick={() => setQuestion(dissolve(l().group))}>{t("dissolve")}</button>
              </div>
            </Show>
          </>
        )}
      </Show>
      <Confirm question={question()} close={() => setQuestion(undefined)} />
    </Modal>
  );
}

/** nameOf returns the name of a user, or the id of one that is no member. */
function nameOf(users: User[], id: number): string {
  return users.find((u) => u.id === id)?.name ?? (id ? `#${id}` : t("none"));
}

/** AddGroup creates a group. */
function AddGroup(props: { close: () => void; done: () => void }) {
  const [name, setName] = createSignal("");
  const [type, setType] = createSignal("normal");
  const [creator, setCreator] = createSignal("");
  const [members, setMembers] = createSignal("");
  return (
    <Modal open close={props.close} title={t("addGroup")} test="group-dialog">
      <Form submit={t("add")} cancel={props.close} run={async () => {
        await send("POST", "/v1/groups", { name: name().trim(), type: type(),
          creator: creator().trim(), members: names(members()) });
        props.done();
        props.close();
      }}>
        <Field label={t("name")} name="name" value={name()} change={setName} required />
        <Choice label={t("type")} name="type" value={type()} change={setType}
          options={[["normal", t("ty_normal")], ["temporary", t("ty_temporary")]]} />
        <Field label={t("creator")} name="creator" value={creator()} change={setCreator} />
        <Field label={t("members")} name="members" value={members()} change={setMembers}
          hint={t("membersHint")} />
      </Form>
    </Modal>
  );
}
