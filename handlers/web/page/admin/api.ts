import { createSignal } from "solid-js";

/** Session is what the server says of the session of this browser. */
export interface Session {
  name: string; // of the token
  role: "admin" | "read-only";
  csrf: string;
  ends: string;
  messages: boolean; // the settings allow to read messages
  process: string;
  version: string;
}

/** Failure is an error that the server answered with. */
export class Failure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly problems: string[] = [],
  ) {
    super(message);
  }
}

// The token itself is in no variable after the sign-in: the browser has the session in a cookie
// that scripts cannot read.
const [session, setSession] = createSignal<Session | null>();
/** ended reports whether the last session ended without a sign-out. */
const [ended, setEnded] = createSignal(false);
export { ended, session };

/** mayChange reports whether the token may change anything. The server refuses it otherwise. */
export const mayChange = () => session()?.role === "admin";

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** request makes a call of the server and returns its answer. A session that has ended leads back
 * to the sign-in. */
async function request<T>(method: Method, path: string, body?: BodyInit,
  type?: string): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (session()) headers["X-Csrf-Token"] = session()!.csrf;
  if (type) headers["Content-Type"] = type;
  let rsp: Response;
  let answer: any;
  try {
    rsp = await fetch(path, { method, headers, body, cache: "no-store",
      credentials: "same-origin" });
    answer = await rsp.json();
  } catch {
    throw new Failure(0, "unreachable", "");
  }
  if (rsp.ok) return answer as T;
  const e = answer?.error ?? {};
  if (e.code === "no_session" || e.code === "no_token") {
    setEnded(!!session());
    setSession(null);
  }
  throw new Failure(rsp.status, String(e.code ?? ""), String(e.message ?? rsp.status),
    Array.isArray(e.problems) ? e.problems.map(String) : []);
}

/** Query is the parameters of a call. Empty ones are left out. */
export type Query = Record<string, string | number | boolean | undefined>;

/** url returns a path with parameters. */
export function url(path: string, query: Query = {}): string {
  const given = Object.entries(query)
    .filter(([, v]) => v !== undefined && v !== "" && v !== 0 && v !== false);
  const text = new URLSearchParams(given.map(([k, v]) => [k, String(v)])).toString();
  return text ? path + "?" + text : path;
}

export const get = <T>(path: string, query?: Query) => request<T>("GET", url(path, query));

/** send makes a call with a JSON object, or without a body. */
export const send = <T>(method: Method, path: string, body?: object) =>
  request<T>(method, path, body && JSON.stringify(body), body && "application/json");

/** sendFile makes a call with a CSV file, as it is: the server tells what is no UTF-8. */
export const sendFile = <T>(path: string, query: Query, file: ArrayBuffer) =>
  request<T>("POST", url(path, query), file, "text/csv");

/** resume asks whether this browser is signed in. */
export async function resume() {
  try {
    setSession(await get<Session>("/session"));
  } catch (err) {
    if ((err as Failure).status !== 401) throw err;
  }
}

/** signIn exchanges a token for a session. */
export async function signIn(token: string) {
  setSession(await send<Session>("POST", "/session", { token }));
  setEnded(false);
}

/** signOut ends the session. It fails when the server cannot be reached: the browser would still be
 * signed in after a reload. */
export async function signOut() {
  await send("DELETE", "/session");
  setSession(null);
}

/** byId names a user by its id. Digits alone would mean a user that has them as its name. */
export const byId = (id: number) => "id:" + id;

/** userPath returns the path of the calls about a user. */
export const userPath = (id: number) => "/v1/users/" + byId(id);

/** part returns a name for the path of a call. */
export const part = encodeURIComponent;

// The answers of the calls, see /openapi.json.

export interface User {
  id: number;
  name: string;
  nick: string;
  domain: string;
  gender: string;
  phone: string;
  email: string;
  avatar: string;
  department: number;
  sign: string;
  status: string;
  updated: number;
}

export interface UserDetail extends User {
  locked_until: string | null;
  networks: { network: string; failed: number; locked_until: string | null;
    login: string | null }[];
  groups: number[];
}

export interface Department {
  id: number;
  name: string;
  path: string;
  parent: number;
  priority: number;
  users: number;
}

export interface Group {
  id: number;
  name: string;
  type: string;
  creator: number;
  created: number;
  last_chat: number;
  count: number;
  members?: number[];
}

export interface OnlineUser {
  id: number;
  name: string;
  nick: string;
  online: boolean;
  devices: { node: string; client: string }[] | null;
}

export interface Node {
  role: string;
  name: string;
  draining: boolean;
  addr: string;
  clients: string[];
  connections: number;
  users: number;
  capacity: number;
  epoch: number;
  version: string;
  lease_age_ms: number;
  lease_left_ms: number;
}

export interface Transfer {
  id: string;
  from: number;
  to: number;
  name: string;
  size: number;
  online: boolean;
  created: string;
}

export interface Setting {
  key: string;
  value: string;
  origin: string;
  reloads: string;
}

export interface Metric {
  name: string;
  labels: Record<string, string>;
  type: string;
  value: number;
  sum: number;
}

export interface LiveData {
  step: number;
  times: string[];
  series: Record<string, (number | null)[]>;
}

export interface AuditEvent {
  time: string;
  event: string;
  by: string;
  user: number;
  name: string;
  from: string;
  client: string;
  what: string;
  result: string;
  detail: string;
}

export interface Message {
  id: number;
  from: number;
  to: number;
  created: number;
  type: string;
  text: string;
  sound?: string;
}
