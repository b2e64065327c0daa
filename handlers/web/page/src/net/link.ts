import { ClientType, ResultType, UserStatType, type UserInfo } from "../gen/base_pb";
import {
  IMKickUserSchema,
  IMLoginReqSchema,
  IMLoginResSchema,
  IMLogoutReqSchema,
  IMLogoutRspSchema,
  type IMKickUser,
  type IMLoginRes,
} from "../gen/login_pb";
import { IMHeartBeatSchema } from "../gen/other_pb";
import type { Received } from "../proto/codec";
import { Connection, type Socket } from "./connection";
import { steady } from "./steady";

export interface Credentials {
  name: string;
  /** passwordDigest of the password. */
  digest: string;
}

/** The reason why a connection is down. text is what the server said; it may be empty. */
export interface Reason {
  kind: "refused" | "outdated" | "busy" | "kicked" | "phone" | "silent" | "closed" | "unreachable";
  text: string;
  /** The code with which the WebSocket was closed; 0: it does not matter. */
  code: number;
}

export type Status =
  | { kind: "idle" }
  | { kind: "connecting"; reason?: Reason }
  | { kind: "online" }
  /** The link connects again at a time, in ms. */
  | { kind: "waiting"; until: number; reason: Reason }
  /** The link does not connect again by itself. */
  | { kind: "ended"; reason: Reason };

export interface LinkEvents {
  status(status: Status): void;
  /** A login succeeded. offset is the server's clock minus this one, in ms. */
  online(conn: Connection, me: UserInfo, login: IMLoginRes, offset: number): void;
  received(pdu: Received): void;
}

const heartbeatEvery = 30_000;
const silentAfter = 60_000;
const loginWithin = 40_000;
const longestWait = 60_000;
/** A connection that ends sooner counts as a failure. */
const steadyAfter = 10_000;

/** Link keeps a user logged in: it connects, sends heartbeats, and connects again. */
export class Link {
  #credentials: Credentials | undefined;
  #conn: Connection | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #onlineSince = 0;
  #began = 0;
  #kick: Reason | undefined;
  #status: Status = { kind: "idle" };
  readonly #dial: () => Socket;
  readonly #events: LinkEvents;
  readonly #version: string;

  constructor(dial: () => Socket, events: LinkEvents, version: string) {
    this.#dial = dial;
    this.#events = events;
    this.#version = version;
  }

  get status(): Status {
    return this.#status;
  }

  /** connection returns the connection after a login; otherwise undefined. */
  get connection(): Connection | undefined {
    return this.#status.kind === "online" ? this.#conn : undefined;
  }

  /** start logs in, and keeps the user logged in until stop. */
  start(credentials: Credentials) {
    this.#credentials = credentials;
    this.#failures = 0;
    this.#connect();
  }

  /** retry connects now, also after a kick. */
  retry() {
    if (!this.#credentials) return;
    if (this.#status.kind === "waiting" || this.#status.kind === "ended") this.#connect();
  }

  /** stop ends the connection; with logout also the session, and its pushes. */
  async stop(logout: boolean) {
    this.#credentials = undefined;
    clearTimeout(this.#timer);
    const conn = this.connection;
    if (logout && conn)
      await conn.call(IMLogoutReqSchema, {}, IMLogoutRspSchema, 2000).catch(() => {});
    // Another start may have followed while the answer was on its way.
    if (this.#credentials) return;
    this.#conn?.close(1000, "");
    this.#set({ kind: "idle" });
  }

  /** tick is called every few seconds, also in a hidden tab. */
  tick() {
    const conn = this.#conn;
    const now = Date.now();
    conn?.clockSet(now);
    if (this.#status.kind === "waiting" && now > this.#status.until + 1000) {
      this.#connect(); // the page's own timer is late, because the tab is hidden
    } else if (this.#status.kind === "connecting" && conn && steady() - this.#began > loginWithin) {
      conn.close(0, "silent");
    } else if (this.#status.kind === "online" && conn) {
      if (now - conn.heard > silentAfter) conn.close(0, "silent");
      else if (now - conn.sent >= heartbeatEvery) conn.send(IMHeartBeatSchema, {});
    }
  }

  /** probe asks for a sign of life at once: after sleep, or when the network changed. */
  probe() {
    if (this.#status.kind === "waiting") this.#connect();
    this.tick();
    this.connection?.send(IMHeartBeatSchema, {});
  }

  #connect() {
    clearTimeout(this.#timer);
    const before = this.#status;
    this.#kick = undefined;
    this.#began = steady();
    this.#set({ kind: "connecting", reason: "reason" in before ? before.reason : undefined });
    let conn: Connection;
    try {
      conn = this.#conn = new Connection(this.#dial(), {
        opened: () => void this.#login(conn),
        received: (pdu) => this.#receive(conn, pdu),
        closed: (code, reason) => this.#closed(conn, code, reason),
      });
    } catch (err) {
      this.#wait({ kind: "unreachable", text: String(err), code: 0 });
    }
  }

  async #login(conn: Connection) {
    const fields = {
      userName: this.#credentials!.name,
      password: this.#credentials!.digest,
      onlineStatus: UserStatType.USER_STATUS_ONLINE,
      clientType: ClientType.WINDOWS,
      clientVersion: this.#version,
      uploadTickets: true,
    };
    let answer: IMLoginRes;
    try {
      answer = await conn.call(IMLoginReqSchema, fields, IMLoginResSchema, loginWithin);
    } catch {
      return; // closed follows, or has been called
    }
    if (this.#conn !== conn || !this.#credentials) return;
    if (answer.resultCode === ResultType.REFUSE_REASON_NONE && answer.userInfo) {
      this.#onlineSince = steady();
      this.#set({ kind: "online" });
      const offset = answer.serverTime * 1000 - Date.now();
      this.#events.online(conn, answer.userInfo, answer, offset);
      return;
    }
    const text = answer.resultString ?? "";
    this.#conn = undefined;
    conn.close(1000, "");
    switch (answer.resultCode) {
      case ResultType.REFUSE_REASON_DB_VALIDATE_FAILED:
        return this.#end({ kind: "refused", text, code: 0 });
      case ResultType.REFUSE_REASON_VERSION_TOO_OLD:
        return this.#end({ kind: "outdated", text, code: 0 });
      default:
        return this.#wait({ kind: "busy", text, code: 0 });
    }
  }

  #receive(conn: Connection, pdu: Received) {
    if (this.#conn !== conn) return;
    if (pdu.schema === IMKickUserSchema) {
      const kick = pdu.message as IMKickUser;
      this.#kick = { kind: kick.kickReason === 2 ? "phone" : "kicked", text: kick.text, code: 0 };
      conn.close(1000, "");
      return;
    }
    if (this.#status.kind === "online" && pdu.schema !== IMHeartBeatSchema)
      this.#events.received(pdu);
  }

  #closed(conn: Connection, code: number, text: string) {
    if (this.#conn !== conn) return;
    this.#conn = undefined;
    if (!this.#credentials) return;
    if (this.#kick) return this.#end(this.#kick);
    if (text === "silent" && code === 0) return this.#wait({ kind: "silent", text: "", code });
    const reached = this.#status.kind === "online";
    this.#wait({ kind: reached || code !== 1006 ? "closed" : "unreachable", text, code });
  }

  #wait(reason: Reason) {
    if (this.#onlineSince && steady() - this.#onlineSince > steadyAfter) this.#failures = 0;
    this.#onlineSince = 0;
    const most = Math.min(longestWait, 1000 * 2 ** this.#failures);
    // The first attempt follows soon, but not for all clients of a server at once.
    const wait = this.#failures === 0 ? Math.random() * most : most * (0.5 + Math.random() / 2);
    this.#failures++;
    this.#set({ kind: "waiting", until: Date.now() + wait, reason });
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #end(reason: Reason) {
    this.#onlineSince = 0;
    this.#set({ kind: "ended", reason });
  }

  #set(status: Status) {
    this.#status = status;
    this.#events.status(status);
  }
}
