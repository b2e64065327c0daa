import { createSignal } from "solid-js";
import { isGroup, idOf, type ConvKey, type Message } from "../state/types";
import type { App } from "../state/app";
import { t } from "./i18n";
import { summary } from "./rows";

type Permission = NotificationPermission | "unsupported";

const first: Permission = typeof Notification === "undefined" ? "unsupported"
  : Notification.permission;
const [notifications, set] = createSignal<Permission>(first);
export { notifications };

/** askNotifications asks the browser for the permission. A click of the user comes before. */
export async function askNotifications() {
  set(await Notification.requestPermission());
}

/** notify shows a notification for a message, unless the user sees the page. */
export function notify(app: App, key: ConvKey, m: Message, open: () => void) {
  if (notifications() !== "granted" || (!document.hidden && document.hasFocus())) return;
  const name = app.store.nick(m.from);
  const title = isGroup(key) ? `${name} · ${app.store.title(key)}` : name;
  try {
    const shown = new Notification(title, { body: summary(m.content), tag: key });
    shown.onclick = () => {
      window.focus();
      open();
      shown.close();
    };
  } catch {
    // Browsers on phones show notifications from service workers only.
  }
}

/** announcement returns a message for a screen reader. */
export function announcement(app: App, key: ConvKey, m: Message): string {
  const name = isGroup(key) ? `${app.store.nick(m.from)}, ${app.store.title(key)}`
    : app.store.nick(idOf(key));
  return t("said", { name, text: summary(m.content) });
}
