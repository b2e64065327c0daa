import { createSignal, Show } from "solid-js";
import { get, mayChange, part, send, type Node } from "./api";
import { number, t } from "./i18n";
import { Confirm, createLoad, Page, repeat, Table, type Question } from "./parts";

/** Nodes shows the registered servers, and lets them drain. */
export function Nodes() {
  const list = createLoad(() => get<{ registry: boolean; nodes: Node[] }>("/v1/nodes"));
  repeat(10, list.reload);
  const [question, setQuestion] = createSignal<Question>();

  const drain = (n: Node): Question => ({
    title: `${t(n.draining ? "serve" : "drain")}: ${n.role} ${n.name}`,
    text: t(n.draining ? "serveSure" : "drainSure", { name: `${n.role} ${n.name}` }),
    action: t(n.draining ? "serve" : "drain"), danger: !n.draining,
    run: async () => {
      await send("PUT", `/v1/nodes/${part(n.name)}/drain`,
        { drain: !n.draining, roles: [n.role] });
      await list.reload();
    },
  });
  const seconds = (ms: number) => number(Math.round(ms / 1000));

  return (
    <Page title={t("nodes")} problem={list.problem()} reload={list.reload}
      hint={list.data()?.registry === false ? t("noRegistry") : ""}>
      <Show when={list.data()?.registry}>
        <Table rows={list.data()!.nodes} test="node" id={(n) => `${n.role} ${n.name}`} columns={[
          { name: t("role"), cell: (n) => n.role },
          { name: t("name"), cell: (n) => n.name },
          { name: t("status"), cell: (n) => (
            <span class="tag" classList={{ bad: n.draining }}>
              {t(n.draining ? "draining" : "serving")}</span>) },
          { name: t("load"), cell: (n) => number(n.connections) },
          { name: t("usersShort"), cell: (n) => number(n.users) },
          { name: t("capacity"), cell: (n) => (n.capacity ? number(n.capacity) : "") },
          { name: t("addrs"), cell: (n) => [n.addr, ...n.clients].filter(Boolean).join(" ") },
          { name: t("lease"), cell: (n) => t("leaseText", { age: seconds(n.lease_age_ms),
            left: seconds(n.lease_left_ms) }) },
          { name: t("version"), cell: (n) => n.version },
          { name: "", cell: (n) => (
            <Show when={mayChange()}>
              <button class="plain" data-test="drain" onClick={() => setQuestion(drain(n))}>
                {t(n.draining ? "serve" : "drain")}</button>
            </Show>) },
        ]} />
      </Show>
      <Confirm question={question()} close={() => setQuestion(undefined)} />
    </Page>
  );
}
