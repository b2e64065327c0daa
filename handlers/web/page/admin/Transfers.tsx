import { size } from "../src/ui/language";
import { get, type Transfer } from "./api";
import { moment, t } from "./i18n";
import { createLoad, Page, repeat, Table } from "./parts";

/** Transfers shows the transfers of files that run in the process. */
export function Transfers() {
  const list = createLoad(() => get<{ transfers: Transfer[] }>("/v1/transfers"));
  repeat(10, list.reload);
  return (
    <Page title={t("transfers")} problem={list.problem()} reload={list.reload}>
      <Table rows={list.data()?.transfers ?? []} test="transfer" id={(f) => f.id}
        empty={t("noTransfers")} columns={[
          { name: t("fileName"), cell: (f) => f.name },
          { name: t("bytes"), cell: (f) => size(f.size) },
          { name: t("fromUser"), cell: (f) => f.from },
          { name: t("toUser"), cell: (f) => f.to },
          { name: t("type"), cell: (f) => t(f.online ? "direct" : "stored") },
          { name: t("since"), cell: (f) => moment(f.created) },
        ]} />
    </Page>
  );
}
