import { createEffect, createSignal, on, Show } from "solid-js";
import { get, mayChange, type OnlineUser } from "./api";
import { t } from "./i18n";
import { Confirm, createDelayed, createPages, Page, SearchField, Table,
  type Question } from "./parts";
import { place, userQuestions } from "./userActions";

/** Online shows which users are online, and where. */
export function Online() {
  const [text, setText] = createSignal("");
  const [question, setQuestion] = createSignal<Question>();
  const search = createDelayed(text);
  const pages = createPages(async (after) => {
    const got = await get<{ users: OnlineUser[]; next: number }>("/v1/online/users",
      { search: search(), after, limit: 100 });
    return { rows: got.users, next: got.next };
  });
  createEffect(on(pages.rows, (rows) => {
    if (!rows.length && pages.next()) void pages.more();
  }));
  return (
    <Page title={t("online")} hint={t("onlineHint")} problem={pages.problem()} busy={pages.busy()}
      reload={pages.reload}>
      <div class="filters"><SearchField value={text()} change={setText} /></div>
      <Table rows={pages.rows()} test="online-user" id={(u) => u.name}
        empty={pages.busy() ? t("loading") : t("nothing")} columns={[
          { name: t("id"), cell: (u) => u.id },
          { name: t("name"), cell: (u) => u.name },
          { name: t("nick"), cell: (u) => u.nick },
          { name: t("where"), cell: (u) => place(u) },
          { name: "", cell: (u) => (
            <Show when={mayChange()}>
              <button class="plain bad" data-test="kick" onClick={() => setQuestion(
                userQuestions(u, () => void pages.reload()).kick())}>{t("kick")}</button>
            </Show>
          ) },
        ]} />
      <Show when={pages.next()}>
        <button class="plain" onClick={() => void pages.more()}>{t("more")}</button>
      </Show>
      <Confirm question={question()} close={() => setQuestion(undefined)} />
    </Page>
  );
}
