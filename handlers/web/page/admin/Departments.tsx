import { createSignal, Show } from "solid-js";
import { VList } from "virtua/solid";
import { Modal } from "../src/ui/Modal";
import { get, mayChange, send, type Department } from "./api";
import { t } from "./i18n";
import { depth, inside } from "./lists";
import { Choice, Confirm, createLoad, Field, Form, Page, type Question } from "./parts";

/** Departments shows the tree, and changes it. */
export function Departments() {
  const list = createLoad(async () =>
    (await get<{ departments: Department[] }>("/v1/departments")).departments);
  const [edited, setEdited] = createSignal<Department | null>(); // null: a new one
  const [within, setWithin] = createSignal(0); // of a new one
  const [question, setQuestion] = createSignal<Question>();

  function add(parent: number) {
    setWithin(parent);
    setEdited(null);
  }

  function remove(d: Department): Question {
    return { title: `${t("del")}: ${d.name}`, text: t("deleteDepartSure", { name: d.path }),
      action: t("del"), danger: true, run: async () => {
        await send("DELETE", "/v1/departments/" + d.id);
        await list.reload();
      } };
  }

  return (
    <Page title={t("departments")} problem={list.problem()} busy={list.busy()}
      reload={list.reload}
      tools={
        <Show when={mayChange()}>
          <button class="primary" data-test="add-department" onClick={() => add(0)}>
            {t("addDepartment")}
          </button>
        </Show>
      }>
      <Show when={list.data()?.length} fallback={
        <p class="hint">{list.busy() ? t("loading") : t("nothing")}</p>}>
        <VList data={list.data()!} itemSize={44} class="list">
          {(d) => (
            <div class="rows tree" data-test="department" data-path={d.path}>
              <span class="cut">
                <span class="indent" style={{ width: `${20 * depth(list.data()!, d.id)}px` }} />
                <span class="title">{d.name}</span>
              </span>
              <a class="plain" href={`#/users?department=${d.id}`}>
                {t("usersOf", { n: d.users })}
              </a>
              <span class="row-actions">
                <Show when={mayChange()}>
                  <button class="plain" data-test="add-inside" title={t("addDepartment")}
                    aria-label={`${t("addDepartment")}: ${d.name}`}
                    onClick={() => add(d.id)}>+</button>
                  <button class="plain" data-test="change" onClick={() => setEdited(d)}>
                    {t("rename")} / {t("move")}</button>
                  <button class="plain bad" data-test="delete"
                    onClick={() => setQuestion(remove(d))}>{t("del")}</button>
                </Show>
              </span>
            </div>
          )}
        </VList>
      </Show>
      <Show when={edited() !== undefined}>
        <Edit department={edited() ?? null} parent={within()} all={list.data() ?? []}
          close={() => setEdited(undefined)} done={() => void list.reload()} />
      </Show>
      <Confirm question={question()} close={() => setQuestion(undefined)} />
    </Page>
  );
}

/** Edit adds a department, or renames and moves one. */
function Edit(props: {
  department: Department | null;
  parent: number;
  all: Department[];
  close: () => void;
  done: () => void;
}) {
  const d = props.department;
  const [name, setName] = createSignal(d?.name ?? "");
  const [parent, setParent] = createSignal(String(d ? d.parent : props.parent));
  const [priority, setPriority] = createSignal(String(d?.priority ?? 0));
  const places = () => props.all.filter((one) => !d || !inside(props.all, one.id, d.id));
  return (
    <Modal open close={props.close} test="department-dialog"
      title={d ? t("changeDepartment", { name: d.name }) : t("addDepartment")}>
      <Form submit={d ? t("save") : t("add")} cancel={props.close} run={async () => {
        const body = { name: name().trim(), parent: Number(parent()),
          priority: Number(priority()) };
        await (d ? send("PATCH", "/v1/departments/" + d.id, body)
          : send("POST", "/v1/departments", body));
        props.done();
        props.close();
      }}>
        <Field label={t("name")} name="name" value={name()} change={setName} required />
        <Choice label={t("parent")} name="parent" value={parent()} change={setParent}
          options={[["0", t("top")], ...places().map((one) =>
            [String(one.id), one.path] as const)]} />
        <Field label={`${t("priority")} (${t("priorityHint")})`} name="priority" type="number"
          value={priority()} change={setPriority} required />
      </Form>
    </Modal>
  );
}
