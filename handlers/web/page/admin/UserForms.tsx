import { createSignal, Show } from "solid-js";
import { Modal } from "../src/ui/Modal";
import { send, sendFile, type Department } from "./api";
import { t } from "./i18n";
import { Check, Choice, Field, Form, Secret } from "./parts";

/** departmentOptions are all departments as the options of a list, after none. */
export const departmentOptions = (list: Department[]) =>
  [["", t("noDepartment")], ...list.map((d) => [String(d.id), d.path] as const)] as const;

/** AddUser adds a user, and shows the password if the server made one. */
export function AddUser(props: {
  departments: Department[];
  close: () => void;
  changed: () => void;
}) {
  const [name, setName] = createSignal("");
  const [nick, setNick] = createSignal("");
  const [password, setPassword] = createSignal("");
  const [phone, setPhone] = createSignal("");
  const [email, setEmail] = createSignal("");
  const [department, setDepartment] = createSignal("");
  const [reserved, setReserved] = createSignal(false);
  const [made, setMade] = createSignal<{ id: number; password?: string }>();

  return (
    <Modal open close={props.close} title={t("addUser")} test="add-user-dialog">
      <Show when={made()} fallback={
        <Form submit={t("add")} cancel={props.close} run={async () => {
          setMade(await send("POST", "/v1/users", { name: name().trim(), nick: nick().trim(),
            password: password(), phone: phone().trim(), email: email().trim(),
            department: department(), reserved: reserved() }));
          props.changed();
        }}>
          <Field label={t("name")} name="name" value={name()} change={setName} required />
          <Field label={t("nick")} name="nick" value={nick()} change={setNick} hint={name()} />
          <Field label={t("password")} name="password" value={password()} change={setPassword}
            type="password" hint={t("passwordEmpty")} />
          <Field label={t("phone")} name="phone" value={phone()} change={setPhone} />
          <Field label={t("email")} name="email" value={email()} change={setEmail} />
          <Choice label={t("department")} name="department" value={department()}
            change={setDepartment} options={[...departmentOptions(props.departments)]} />
          <Check label={t("reserved")} name="reserved" value={reserved()} change={setReserved} />
        </Form>
      }>
        {(m) => (
          <>
            <p role="status" data-test="added">{t("added", { name: name().trim(), id: m().id })}</p>
            <Show when={m().password}>
              <Secret text={t("generated", { name: name().trim() })} value={m().password!} />
            </Show>
            <div class="actions">
              <button class="primary" data-test="close" onClick={props.close}>{t("close")}</button>
            </div>
          </>
        )}
      </Show>
    </Modal>
  );
}

interface Imported {
  added: number;
  skipped: number;
  passwords: { name: string; password: string }[] | null;
}

/** ImportUsers checks a CSV file, and adds its users. */
export function ImportUsers(props: { close: () => void; changed: () => void }) {
  const [bytes, setBytes] = createSignal<ArrayBuffer>();
  const [skip, setSkip] = createSignal(false);
  const [reserved, setReserved] = createSignal(false);
  const [checked, setChecked] = createSignal<Imported>();
  const [done, setDone] = createSignal<Imported>();
  const [problem, setProblem] = createSignal("");

  let chosen: File | undefined;

  // What was checked is another file now, or is read in another way.
  function change(set: () => void) {
    set();
    setChecked(undefined);
  }

  async function choose(file?: File) {
    change(() => setBytes());
    chosen = undefined;
    setProblem(file && file.size > 1 << 20 ? t("fileTooLarge") : "");
    if (!file || problem()) return;
    chosen = file;
    try {
      const read = await file.arrayBuffer();
      if (chosen === file) setBytes(read);
    } catch (err) {
      setProblem(String(err)); // the file was moved or changed
    }
  }

  async function run() {
    const query = { skip_existing: skip(), reserved: reserved() };
    if (!checked()) {
      setChecked(await sendFile<Imported>("/v1/users/csv", { ...query, dry_run: true }, bytes()!));
      return;
    }
    setDone(await sendFile<Imported>("/v1/users/csv", query, bytes()!));
    props.changed();
  }

  return (
    <Modal open close={props.close} title={t("importUsers")} test="import-dialog">
      <Show when={done()} fallback={
        <Form submit={checked() ? t("importNow") : t("check")} cancel={props.close} run={run}
          ready={!!bytes()}>
          <p>{t("csvHint")}</p>
          <label>
            {t("chooseFile")}
            <input type="file" accept=".csv,text/csv" data-test="field-file"
              onChange={(ev) => void choose(ev.currentTarget.files?.[0])} />
          </label>
          <Check label={t("skipExisting")} name="skip" value={skip()}
            change={(on) => change(() => setSkip(on))} />
          <Check label={t("reserved")} name="reserved" value={reserved()}
            change={(on) => change(() => setReserved(on))} />
          <p class="problem">{problem()}</p>
          <p role="status" data-test="checked">
            {checked() && t("checked", { added: checked()!.added, skipped: checked()!.skipped })}
          </p>
        </Form>
      }>
        {(d) => (
          <>
            <p role="status" data-test="imported">
              {t("imported", { added: d().added, skipped: d().skipped })}
            </p>
            <Show when={d().passwords?.length}>
              <Secret text={t("passwords")} value={d().passwords!.map((p) =>
                `${p.name},${p.password}`).join("\n")} />
            </Show>
            <div class="actions">
              <button class="primary" onClick={props.close}>{t("close")}</button>
            </div>
          </>
        )}
      </Show>
    </Modal>
  );
}
