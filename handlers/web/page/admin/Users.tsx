import { createEffect, createSignal, on, Show } from "solid-js";
import { VList } from "virtua/solid";
import { Modal } from "../src/ui/Modal";
import { get, mayChange, send, type Department, type User } from "./api";
import { AddUser, ImportUsers } from "./UserForms";
import { UserPanel } from "./UserPanel";
import { maybe, t } from "./i18n";
import { Choice, createDelayed, createLoad, createPages, Field, Form, Page,
  SearchField } from "./parts";

/** pageSize is how many rows one call returns. */
const pageSize = 200;

/** Users finds users, and opens one of them. */
export function Users() {
  const [text, setText] = createSignal("");
  const [status, setStatus] = createSignal("");
  const [depart, setDepart] = createSignal(new URLSearchParams(location.hash.split("?")[1])
    .get("department") ?? "");
  const [opened, setOpened] = createSignal<number>();
  const [dialog, setDialog] = createSignal<"add" | "import" | "unlock">();
  const search = createDelayed(text);

  const departs = createLoad(async () =>
    (await get<{ departments: Department[] }>("/v1/departments")).departments);
  const pathOf = (id: number) =>
    departs.data()?.find((d) => d.id === id)?.path ?? (id ? `#${id}` : "");
  const pages = createPages(async (after) => {
    const got = await get<{ users: User[]; next: number }>("/v1/users", { search: search(),
      status: status(), department: Number(depart()), after, limit: pageSize });
    return { rows: got.users, next: got.next };
  });
  // A page of a search for something rare may have no rows, although there are more.
  createEffect(on(pages.rows, (rows) => {
    if (!rows.length && pages.next()) void pages.more();
  }));

  return (
    <Page title={t("users")} problem={pages.problem() || departs.problem()} busy={pages.busy()}
      reload={pages.reload}
      tools={
        <Show when={mayChange()}>
          <button class="plain" data-test="unlock-network" onClick={() => setDialog("unlock")}>
            {t("unlockNetwork")}
          </button>
          <button class="plain" data-test="import-users" onClick={() => setDialog("import")}>
            {t("importUsers")}
          </button>
          <button class="primary" data-test="add-user" onClick={() => setDialog("add")}>
            {t("addUser")}
          </button>
        </Show>
      }>
      <div class="filters">
        <SearchField value={text()} change={setText} />
        <Choice bare label={t("status")} name="status" value={status()} change={setStatus}
          options={[["", t("allStatuses")],
            ...["ok", "disabled", "trial", "regular", "intern"].map((s) =>
              [s, maybe("st_", s)] as const)]} />
        <Choice bare label={t("department")} name="in-department" value={depart()}
          change={setDepart} options={[["", t("allDepartments")],
            ...(departs.data() ?? []).map((d) => [String(d.id), d.path] as const)]} />
      </div>
      <Show when={pages.rows().length} fallback={
        <p class="hint">{pages.busy() ? t("loading") : t("nothing")}</p>}>
        <div class="rows users head" aria-hidden="true">
          <span>{t("id")}</span><span>{t("name")}</span><span>{t("nick")}</span>
          <span>{t("department")}</span><span>{t("status")}</span>
        </div>
        <VList data={pages.rows()} itemSize={44} class="list" onScroll={(offset) => {
          if (offset > (pages.rows().length - 60) * 44) void pages.more();
        }}>
          {(u) => (
            <button class="rows users" data-test="user" data-user={u.name}
              onClick={() => setOpened(u.id)}>
              <span class="dim">{u.id}</span>
              <span class="title">{u.name}</span>
              <span class="cut">{u.nick}</span>
              <span class="cut dim">{pathOf(u.department)}</span>
              <span><span class="tag" classList={{ bad: u.status === "disabled" }}>
                {maybe("st_", u.status)}</span></span>
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
        {(id) => <UserPanel id={id} departments={departs.data() ?? []}
          close={() => setOpened(undefined)} changed={() => void pages.reload()} />}
      </Show>
      <Show when={dialog() === "add"}>
        <AddUser departments={departs.data() ?? []} close={() => setDialog(undefined)}
          changed={() => void pages.reload()} />
      </Show>
      <Show when={dialog() === "import"}>
        <ImportUsers close={() => setDialog(undefined)} changed={() => void pages.reload()} />
      </Show>
      <Show when={dialog() === "unlock"}>
        <UnlockNetwork close={() => setDialog(undefined)} />
      </Show>
    </Page>
  );
}

/** UnlockNetwork forgets the wrong passwords from a network. */
function UnlockNetwork(props: { close: () => void }) {
  const [address, setAddress] = createSignal("");
  const [done, setDone] = createSignal("");
  return (
    <Modal open close={props.close} title={t("unlockNetwork")}>
      <Form submit={t("unlock")} cancel={props.close} run={async () => {
        const got = await send<{ network: string }>("POST", "/v1/networks/unlock",
          { address: address().trim() });
        setDone(t("unlockedNetwork", { network: got.network }));
      }}>
        <p>{t("unlockNetworkHint")}</p>
        <Field label={t("address")} name="address" value={address()} change={setAddress} required />
        <p role="status">{done()}</p>
      </Form>
    </Modal>
  );
}
