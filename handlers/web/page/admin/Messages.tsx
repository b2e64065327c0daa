import { createSignal, Show } from "solid-js";
import { get, type Message } from "./api";
import { moment, t } from "./i18n";
import { names } from "./lists";
import { Field, Form, Page, Table } from "./parts";

/** Messages looks messages up by their ids, for support. */
export function Messages() {
  const [user, setUser] = createSignal("");
  const [peer, setPeer] = createSignal("");
  const [group, setGroup] = createSignal("");
  const [ids, setIds] = createSignal("");
  const [found, setFound] = createSignal<Message[]>();
  return (
    <Page title={t("messages")} hint={t("messagesHint")}>
      <div class="panel-box lookup">
        <Form submit={t("lookUp")} run={async () => {
          setFound(undefined);
          const got = await get<{ messages: Message[] }>("/v1/messages", { user: user().trim(),
            peer: peer().trim(), group: group().trim(), ids: names(ids()).join(",") });
          setFound(got.messages);
        }}>
          <Field label={t("userId")} name="user" value={user()} change={setUser} required />
          <Field label={t("peerId")} name="peer" value={peer()} change={setPeer} />
          <Field label={t("groupId")} name="group" value={group()} change={setGroup} />
          <Field label={t("ids")} name="ids" value={ids()} change={setIds} required />
        </Form>
      </div>
      <Show when={found()}>
        {(list) => (
          <Table rows={list()} test="message" columns={[
            { name: t("id"), cell: (m) => m.id },
            { name: t("time"), cell: (m) => moment(m.created) },
            { name: t("fromUser"), cell: (m) => m.from },
            { name: t("toUser"), cell: (m) => m.to },
            { name: t("what"), cell: (m) => (m.type === "audio"
              ? `${t("sound")} ${m.sound ?? ""}` : <span class="content">{m.text}</span>) },
          ]} />
        )}
      </Show>
    </Page>
  );
}
