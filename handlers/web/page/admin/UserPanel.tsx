import { createEffect, createSignal, For, on, Show } from "solid-js";
import { Modal } from "../src/ui/Modal";
import { get, mayChange, send, type Department, type OnlineUser, type UserDetail,
  userPath } from "./api";
import { day, maybe, moment, t } from "./i18n";
import { Choice, Confirm, createLoad, Field, Form, repeat, Secret, Table,
  type Question } from "./parts";
import { place, userQuestions } from "./userActions";
import { departmentOptions } from "./UserForms";

type Text = "nick" | "domain" | "phone" | "email" | "sign";
const texts: readonly Text[] = ["nick", "domain", "phone", "email", "sign"];

/** UserPanel shows a user, changes it, and acts on it. */
export function UserPanel(props: {
  id: number;
  departments: Department[];
  close: () => void;
  changed: () => void;
}) {
  const path = userPath(props.id);
  const user = createLoad(() => get<UserDetail>(path));
  // Where the user is online is known to servers that may be away: a problem of its own.
  const where = createLoad(async () =>
    (await get<{ users: OnlineUser[] }>("/v1/online", { users: props.id })).users[0]);
  repeat(10, where.reload);
  const [question, setQuestion] = createSignal<Question>();
  const [secret, setSecret] = createSignal("");
  const [note, setNote] = createSignal("");
  const [passwordOpen, setPasswordOpen] = createSignal(false);

  function done(text: string) {
    setNote(text);
    void user.reload();
    void where.reload();
    props.changed();
  }

  function remove(u: UserDetail): Question {
    return { title: `${t("deleteUser")}: ${u.name}`, text: t("deleteSure", { name: u.name }),
      action: t("deleteUser"), danger: true, run: async () => {
        const got = await send<{ owned: number[] | null }>("DELETE", path);
        done(got.owned?.length
          ? t("deletedOwned", { name: u.name, list: got.owned.join(", ") }) : t("done"));
      } };
  }

  return (
    <Modal open side close={props.close} title={user.data()?.name ?? ""} test="user-panel">
      <p class="problem" role="alert">{user.problem()}</p>
      <Show when={user.data()}>
        {(u) => {
          const ask = () => userQuestions(u(), (kind) =>
            done(kind === "kick" ? t("kicked", { name: u().name }) : t("done")));
          return (
            <>
              <dl>
                <dt>{t("id")}</dt><dd>{u().id}</dd>
                <dt>{t("status")}</dt>
                <dd data-test="user-status" data-status={u().status}>{maybe("st_", u().status)}</dd>
                <dt>{t("where")}</dt>
                <dd data-test="user-where">{where.problem() || place(where.data())}</dd>
                <dt>{t("department")}</dt>
                <dd>{departmentOf(props.departments, u().department)}</dd>
                <dt>{t("changed")}</dt><dd>{moment(u().updated)}</dd>
                <Show when={u().locked_until}>
                  <dt>{t("lockedUntil")}</dt><dd class="bad">{moment(u().locked_until)}</dd>
                </Show>
                <dt>{t("groups")}</dt><dd>{u().groups.join(", ") || t("none")}</dd>
              </dl>
              <Show when={mayChange()}>
                <div class="actions start">
                  <button class="plain" data-test="kick" onClick={() => setQuestion(ask().kick())}>
                    {t("kick")}</button>
                  <Show when={u().status !== "disabled"} fallback={
                    <button class="plain" data-test="enable"
                      onClick={() => setQuestion(ask().enable())}>{t("enable")}</button>}>
                    <button class="plain bad" data-test="disable"
                      onClick={() => setQuestion(ask().disable())}>{t("disable")}</button>
                  </Show>
                  <button class="plain" data-test="unlock"
                    onClick={() => setQuestion(ask().unlock())}>{t("unlock")}</button>
                  <button class="plain" data-test="password" onClick={() => setPasswordOpen(true)}>
                    {t("newPassword")}</button>
                  <button class="plain bad" data-test="delete"
                    onClick={() => setQuestion(remove(u()))}>{t("deleteUser")}</button>
                </div>
              </Show>
              <p role="status" data-test="note">{note()}</p>
              <Show when={secret()}>
                <Secret text={t("generated", { name: u().name })} value={secret()} />
              </Show>
              <Show when={mayChange()} fallback={<Contact user={u()} />}>
                <Edit user={u()} departments={props.departments} path={path}
                  done={() => done(t("done"))} />
              </Show>
              <h3>{t("networks")}</h3>
              <Table rows={u().networks} empty={t("none")} columns={[
                { name: t("network"), cell: (n) => n.network || t("unknownNetwork") },
                { name: t("failedLogins"), cell: (n) => n.failed },
                { name: t("lockedUntil"), cell: (n) => moment(n.locked_until) },
                { name: t("lastLogin"), cell: (n) => day(n.login) },
              ]} />
              <Show when={passwordOpen()}>
                <NewPassword user={u()} path={path} close={() => setPasswordOpen(false)}
                  done={(made) => {
                    setSecret(made);
                    done(t("done"));
                  }} />
              </Show>
            </>
          );
        }}
      </Show>
      <Confirm question={question()} close={() => setQuestion(undefined)} />
    </Modal>
  );
}

/** departmentOf returns the path of a department, or the id of one that is not known. */
function departmentOf(list: Department[], id: number): string {
  return list.find((d) => d.id === id)?.path ?? (id ? `#${id}` : t("none"));
}

function Contact(props: { user: UserDetail }) {
  return (
    <dl>
      <For each={texts}>
        {(name) => <><dt>{t(name)}</dt><dd>{props.user[name]}</dd></>}
      </For>
    </dl>
  );
}

/** Edit changes the fields of a user. It sends those that differ. */
function Edit(props: {
  user: UserDetail;
  departments: Department[];
  path: string;
  done: () => void;
}) {
  const filled = () => ({
    ...Object.fromEntries(texts.map((name) => [name, props.user[name]])) as Record<Text, string>,
    gender: props.user.gender, department: String(props.user.department || ""),
  });
  const [fields, setFields] = createSignal(filled());
  // After a change, fields have what the server has stored.
  createEffect(on(() => props.user, () => setFields(filled()), { defer: true }));
  const set = (name: string, value: string) => setFields({ ...fields(), [name]: value });
  const changes = () => {
    const before: Record<string, string> = filled();
    const changed = Object.entries(fields()).filter(([name, value]) => value !== before[name]);
    return Object.fromEntries(changed.map(([name, value]) =>
      [name, name === "department" ? value || "/" : value]));
  };

  return (
    <Form submit={t("save")} ready={Object.keys(changes()).length > 0}
      run={async () => {
        await send("PATCH", props.path, changes());
        props.done();
      }}>
      <For each={texts}>
        {(name) => <Field label={t(name)} name={"edit-" + name} value={fields()[name]}
          change={(text) => set(name, text)} />}
      </For>
      <Choice label={t("gender")} name="edit-gender" value={fields().gender}
        change={(v) => set("gender", v)}
        options={[["", t("genderUnknown")], ["m", t("genderM")], ["f", t("genderF")]]} />
      <Choice label={t("department")} name="edit-department" value={fields().department}
        change={(v) => set("department", v)} options={[...departmentOptions(props.departments)]} />
    </Form>
  );
}

/** NewPassword gives a user another password, generated if none is typed. */
function NewPassword(props: {
  user: UserDetail;
  path: string;
  close: () => void;
  done: (generated: string) => void;
}) {
  const [password, setPassword] = createSignal("");
  return (
    <Modal open close={props.close} title={`${t("newPassword")}: ${props.user.name}`}
      test="password-dialog">
      <Form submit={t("newPassword")} danger cancel={props.close} run={async () => {
        const got = await send<{ password?: string }>("POST", props.path + "/password",
          { password: password() });
        props.done(got.password ?? "");
        props.close();
      }}>
        <p>{t("passwordSure", { name: props.user.name })}</p>
        <Field label={t("password")} name="password" value={password()} change={setPassword}
          type="password" hint={t("passwordEmpty")} />
      </Form>
    </Modal>
  );
}
