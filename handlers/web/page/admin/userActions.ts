import { send, type OnlineUser, userPath } from "./api";
import { t } from "./i18n";
import type { Question } from "./parts";

/** place says where a user is online. */
export function place(u?: OnlineUser): string {
  if (!u?.online) return t("offline");
  if (!u.devices?.length) return t("devicesUnknown");
  return u.devices.map((d) => `${d.client} (${d.node})`).join(", ");
}

/** userQuestions are what can be done to a user, with what happens then. */
export function userQuestions(u: { id: number; name: string }, done: (kind: string) => void) {
  const path = userPath(u.id);
  const ask = (kind: string, title: string, text: string, danger = false,
    method: "POST" | "DELETE" = "POST", tail = "/" + kind): Question => ({
    title: `${title}: ${u.name}`, text, action: title, danger,
    run: async () => {
      await send(method, path + tail);
      done(kind);
    },
  });
  return {
    kick: () => ask("kick", t("kick"), t("kickSure", { name: u.name }), true),
    disable: () => ask("disable", t("disable"), t("disableSure", { name: u.name }), true),
    enable: () => ask("enable", t("enable"), t("enableSure", { name: u.name })),
    unlock: () => ask("unlock", t("unlock"), t("unlockSure", { name: u.name })),
  };
}
