import { createSignal } from "solid-js";
import { get, type AuditEvent } from "./api";
import { moment, t } from "./i18n";
import { Choice, createLoad, Page, SearchField, Table } from "./parts";

const kinds = ["admin_call", "login", "login_refused", "logout", "kick", "call", "register"];

/** Audit shows the last events of the process for the audit log. */
export function Audit() {
  const list = createLoad(async () => (await get<{ events: AuditEvent[] }>("/v1/audit")).events);
  const [text, setText] = createSignal("");
  const [kind, setKind] = createSignal("");
  const shown = () => (list.data() ?? []).filter((e) => (!kind() || e.event === kind()) &&
    Object.values(e).join(" ").toLowerCase().includes(text().trim().toLowerCase()));
  return (
    <Page title={t("audit")} hint={t("auditHint")} problem={list.problem()} reload={list.reload}
      busy={list.busy()}>
      <div class="filters">
        <SearchField value={text()} change={setText} />
        <Choice bare label={t("event")} name="event" value={kind()} change={setKind}
          options={[["", t("allEvents")], ...kinds.map((k) => [k, k] as const)]} />
      </div>
      <Table rows={shown()} test="event" columns={[
        { name: t("time"), cell: (e) => moment(e.time) },
        { name: t("event"), cell: (e) => e.event },
        { name: t("by"), cell: (e) => e.by || [e.name, e.user || ""].filter(Boolean).join(" #") },
        { name: t("from"), cell: (e) => e.from },
        { name: t("what"), cell: (e) => [e.what, e.by ? e.name : "", e.client.replace(
          /^CLIENT_TYPE_/, "")].filter(Boolean).join(" ") },
        { name: t("result"), cell: (e) => (
          <span classList={{ bad: e.event !== "logout" && e.result !== "ok" }}>
            {[e.result, e.detail].filter(Boolean).join(": ")}</span>) },
      ]} />
    </Page>
  );
}
