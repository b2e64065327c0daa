import { Fault, faultOf, faultOfStatus } from "./fault";

/** Config is what the server says about itself at /config.json. */
export interface Config {
  /** A path or a URL. */
  websocket: string;
  register: { enabled: boolean; invite: boolean };
  /** The key of the text cipher, 32 characters; "": the user types it. */
  text_key: string;
  /** The server takes files at /file. */
  files: boolean;
  name: string;
  version: string;
}

/** loadConfig asks the server for its configuration. */
export async function loadConfig(): Promise<Config> {
  const answer = await fetch("/config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`/config.json: status ${answer.status}`);
  return (await answer.json()) as Config;
}

/** socketURL returns the URL of a WebSocket: a path belongs to the host of the page. */
export function socketURL(websocket: string): string {
  const url = new URL(websocket, location.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  return url.href;
}

export interface Registration {
  user_name: string;
  password: string;
  nick_name: string;
  invite_code: string;
}

/**
 * The error of a registration that the server refused. field is the rejected field, or "", and
 * code the error_code. The message is what the server said.
 */
export class Refused extends Error {
  readonly field: string;
  readonly code: number;

  constructor(text: string, field: string, code: number) {
    super(text);
    this.field = field;
    this.code = code;
  }
}

/** register creates a user. The error is Refused, or that of the connection. */
export async function register(fields: Registration): Promise<void> {
  const answer = await fetch("/register", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(fields),
  });
  const result = (await answer.json().catch(() => undefined)) as
    | { error_code: number; error_msg: string; field?: string }
    | undefined;
  if (!result) throw new Error(`status ${answer.status}`);
  if (result.error_code !== 0) throw new Refused(result.error_msg, result.field ?? "",
    result.error_code);
}

/** The largest picture that servers take by default, in bytes. */
export const maxPicture = 10 << 20;

/**
 * uploadPicture stores a picture on the picture server and returns its URL. The name holds the
 * size, so that clients know it before they load the picture. The error is a Fault.
 */
export async function uploadPicture(file: File, ticket: string): Promise<string> {
  const form = new FormData();
  form.append("image", file, await nameOf(file));
  const answer = await fetch("/msfs/upload/", {
    method: "POST",
    headers: ticket ? { "X-TeamTalk-Ticket": ticket } : {},
    body: form,
  }).catch((err) => {
    throw new Fault("lost", String(err));
  });
  const result = (await answer.json().catch(() => undefined)) as
    | { error_code: number; error_msg: string; url: string }
    | undefined;
  if (!result) throw faultOfStatus(answer.status, "");
  if (result.error_code !== 0 || !result.url) throw faultOf(result.error_code, result.error_msg);
  return result.url;
}

async function nameOf(file: File): Promise<string> {
  const kind = { "image/png": "png", "image/gif": "gif", "image/webp": "webp" }[file.type] ?? "jpg";
  const picture = await createImageBitmap(file).catch(() => undefined);
  if (!picture) throw new Fault("notPicture");
  const { width, height } = picture;
  picture.close();
  return `picture_${width}x${height}.${kind}`;
}
