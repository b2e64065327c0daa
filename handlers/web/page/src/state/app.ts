import { createSignal } from "solid-js";
import { unwrap } from "solid-js/store";
import type { UserInfo } from "../gen/base_pb";
import { IMRemoveSessionReqSchema, IMRemoveSessionRspSchema } from "../gen/buddy_pb";
import { IMUploadTicketReqSchema, IMUploadTicketRspSchema } from "../gen/file_pb";
import type { IMLoginRes } from "../gen/login_pb";
import { IMMsgDataReadAckSchema, IMMsgDataSchema } from "../gen/message_pb";
import { IMP2PCmdMsgSchema } from "../gen/switch_pb";
import type { Connection, Socket } from "../net/connection";
import { Fault } from "../net/fault";
import { everyFewSeconds } from "../net/heartbeat";
import { socketURL, uploadPicture, type Config } from "../net/http";
import { Link, type Status } from "../net/link";
import { Tabs } from "../net/tabs";
import { TextCipher } from "../proto/cipher";
import type { Recorded } from "../sound/recorder";
import { passwordDigest } from "../proto/password";
import { Cache } from "./cache";
import { Files } from "./files";
import { Groups } from "./groups";
import { History } from "./history";
import { Incoming } from "./incoming";
import { writeContent } from "./messages";
import { newMessageID, Outbox, repeatWindow } from "./outbox";
import { drafts, saved, type Login } from "./saved";
import { pictureText } from "./segments";
import { Store } from "./store";
import { readUser, Sync, type Times } from "./sync";
import { splitText, typingCommand, typingEvery } from "./text";
import {
  idOf,
  isGroup,
  sessionType,
  soundType,
  textType,
  type Content,
  type ConvKey,
  type Failure,
  type Message,
  type Pending,
} from "./types";

/** App connects the parts of the page: connection, state, cache and outbox. */
export class App {
  readonly store = new Store();
  readonly config: Config;
  readonly link: Link;
  readonly tabs: Tabs;
  readonly history: History;
  readonly groups: Groups;
  readonly files: Files;
  readonly incoming: Incoming;
  /** The login of this tab; undefined: the login form is shown. */
  readonly login;
  /** The server's clock minus this one, in ms. */
  offset = 0;
  readonly #setLogin;
  readonly #outbox: Outbox;
  #cache: Cache | undefined;
  #cacheOf = 0;
  #opened = 0; // the number of the last opening of a cache, or of the last end of a login
  /** The client_msg_ids of the texts that this tab has seen in the database. */
  readonly #kept = new Set<string>();
  #cipher: TextCipher;
  #sync: Sync | undefined;
  readonly #times: Times = { users: 0, departs: 0, sessions: 0 };
  #saving: ReturnType<typeof setTimeout> | undefined;
  #tickets = false;
  #toldTyping = 0;
  #created = 0;

  constructor(config: Config) {
    this.config = config;
    this.#cipher = new TextCipher(config.text_key);
    [this.login, this.#setLogin] = createSignal<Login | undefined>(undefined);
    const dial = () => new WebSocket(socketURL(config.websocket)) as unknown as Socket;
    this.link = new Link(dial, {
      status: (s) => this.#statusChanged(s),
      online: (conn, me, login, offset) => void this.#online(conn, me, login, offset),
      received: (pdu) => this.incoming.received(pdu),
    }, `web/${config.version}`);
    this.tabs = new Tabs(() => {
      this.store.set("elsewhere", true);
      void this.link.stop(false);
    }, () => {
      saved.clear();
      void this.link.stop(false);
      this.#leave();
    });
    this.history = new History(this.store, {
      connection: () => this.link.connection,
      me: () => this.me,
      cipher: () => this.#cipher,
      cache: () => this.#cache,
      named: (id) => this.#sync?.wantUser(id),
    });
    this.groups = new Groups(this.store, () => this.link.connection);
    this.files = new Files(this.store, () => this.link.connection);
    this.#outbox = new Outbox({
      transmit: (p, seq) => this.#transmit(p, seq),
      stored: (p, id) => this.#stored(p, id),
      failed: (p, why) => this.#failed(p, why),
    });
    this.incoming = new Incoming(this, this.#outbox);
    everyFewSeconds(() => this.link.tick());
    window.addEventListener("online", () => this.link.probe());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return;
      this.link.probe();
      this.read();
    });
    window.addEventListener("focus", () => this.read());
  }

  /** me is the id of the user; 0 before the login. */
  get me(): number {
    return this.store.state.me?.id ?? 0;
  }

  get cipher(): TextCipher {
    return this.#cipher;
  }

  get cache(): Cache | undefined {
    return this.#cache;
  }

  get sync(): Sync | undefined {
    return this.#sync;
  }

  /** now is the time of the server, in seconds. */
  now(): number {
    return Math.floor((Date.now() + this.offset) / 1000);
  }

  /** resume continues the login of an earlier visit, if the browser has one. */
  async resume() {
    const login = saved.load();
    if (!login) return;
    try {
      await this.#begin(login);
    } catch (err) {
      console.warn("The login of the last visit cannot be used:", err);
      saved.clear();
      this.#leave();
    }
  }

  /** signIn logs in. keep: the browser keeps the login beyond this tab. */
  async signIn(name: string, password: string, textKey: string, keep: boolean) {
    const login: Login = { name, digest: passwordDigest(password), textKey, keep, user: 0 };
    await this.#begin(login);
  }

  async #begin(login: Login) {
    this.#cipher = new TextCipher(this.config.text_key || login.textKey);
    this.#setLogin(login);
    if (login.user) await this.#openCache(login.user);
    if (this.login() !== login) return; // the user has cancelled
    const free = await this.tabs.claim(login.name);
    if (this.login() !== login) return;
    if (free) this.link.start(login);
    else this.store.set("elsewhere", true);
  }

  /** takeOver takes the connection from the other tab. */
  async takeOver() {
    const login = this.login();
    if (!login) return;
    this.tabs.take();
    this.store.set("elsewhere", false);
    const kept = await this.#cache?.pending();
    if (this.login() !== login) return;
    if (kept) this.#adopt(kept);
    if (this.login() === login && !this.store.state.elsewhere) this.link.start(login);
  }

  /** #adopt takes over the texts of the database, in which the other tab has had the last word. */
  #adopt(kept: Pending[]) {
    const there = new Set(kept.map((p) => p.cmid));
    const known = new Set<string>();
    for (const p of Object.values(unwrap(this.store.state).pending).flat()) {
      known.add(p.cmid);
      if (!this.#kept.has(p.cmid) || there.has(p.cmid)) continue;
      this.store.removePending(p); // the other tab has sent or discarded it
      this.#outbox.drop(p);
    }
    // The other tab may have texts that it could not send.
    for (const p of kept) if (!known.has(p.cmid)) this.#restore(p);
  }

  /** unsent counts the texts and pictures that signOut would lose. */
  unsent(): number {
    const { pending, uploads, files } = this.store.state;
    const moving = Object.values(files).flat().filter((f) => f.own && f.state === "moving");
    return [...Object.values(pending), ...Object.values(uploads), moving].flat().length;
  }

  /** signOut ends the session and deletes what the browser keeps: others may use it as well. */
  async signOut() {
    const user = this.#cacheOf;
    saved.clear();
    this.tabs.signOut();
    await this.link.stop(true);
    this.#leave();
    if (!user) return;
    drafts.clear(user);
    Cache.remove(user);
  }

  #leave() {
    this.tabs.release();
    this.#sync?.end();
    this.#outbox.clear();
    clearTimeout(this.#saving);
    this.#cache?.close();
    this.#cache = undefined;
    this.#cacheOf = 0;
    this.#opened++;
    this.#kept.clear();
    Object.assign(this.#times, { users: 0, departs: 0, sessions: 0 });
    this.store.reset();
    this.#setLogin(undefined);
  }

  #statusChanged(status: Status) {
    if (status.kind === "waiting" || status.kind === "ended" || status.kind === "idle") {
      this.#sync?.end();
      this.#outbox.offline();
      this.store.unsync();
    }
    if (status.kind === "ended" && status.reason.kind === "refused") {
      // The password may have changed. The form shows what the server says.
      saved.clear();
      this.#leave();
    }
    this.store.set("status", status);
  }

  async #online(conn: Connection, info: UserInfo, answer: IMLoginRes, offset: number) {
    const login = this.login();
    if (!login) return;
    this.offset = offset;
    this.#tickets = answer.uploadTickets;
    const me = readUser(info);
    this.store.set("me", me);
    if (login.user !== me.id) {
      login.user = me.id;
      await this.#openCache(me.id);
      if (this.link.connection !== conn) return;
    }
    saved.save(login);
    this.store.set("me", me);
    this.store.putUsers([me]);
    this.store.set("online", me.id, true);
    const sync = (this.#sync = new Sync(conn, this.store, this.#cipher, me.id, this.#times));
    this.#outbox.online();
    const open = this.store.state.open;
    if (open) void this.history.load(open).then(() => this.read());
    this.files.online();
    if (this.config.files) void this.files.waiting().catch(() => {}); // asked at the next login
    await sync.run();
    this.keep();
    this.read();
  }

  async #openCache(user: number) {
    if (this.#cacheOf === user) return;
    this.#cache?.close();
    this.#cache = undefined;
    this.#cacheOf = user;
    const turn = ++this.#opened;
    const cache = await Cache.open(user);
    const book = await cache.book();
    const pending = await cache.pending();
    if (turn !== this.#opened) return cache.close(); // the user has signed out meanwhile
    this.#cache = cache;
    this.store.putUsers(book.users ?? []);
    this.store.putDeparts(book.departs ?? []);
    this.store.putGroups(book.groups ?? []);
    this.store.putSessions(book.sessions ?? []);
    this.#times.users = book.usersTime ?? 0;
    this.#times.departs = book.departsTime ?? 0;
    this.#times.sessions = book.sessionsTime ?? 0;
    const me = this.store.state.users[user];
    if (me) this.store.set("me", me);
    if (book.sessions) this.store.set("ready", true);
    for (const p of pending ?? []) this.#restore(p);
  }

  /** #restore continues with a text of an earlier visit. */
  #restore(p: Pending) {
    this.#kept.add(p.cmid);
    if (p.state === "sending" && Date.now() - p.created > repeatWindow)
      p = { ...p, state: "failed", failure: "old" };
    this.store.putPending(p);
    if (p.state === "sending") this.#outbox.add(p);
  }

  /** keep writes what the page knows to the cache, soon. */
  keep() {
    clearTimeout(this.#saving);
    this.#saving = setTimeout(() => {
      void this.#cache?.saveBook(this.store.book(this.#times));
    }, 1000);
  }

  // Conversations

  /** open shows a conversation; undefined: none. */
  open(key: ConvKey | undefined) {
    const before = this.store.state.open;
    if (before === key) return;
    if (before) this.history.leave(before);
    this.store.set("open", key);
    if (!key) return;
    if (isGroup(key) && !this.store.state.groups[idOf(key)]) this.#sync?.wantGroup(idOf(key));
    if (!isGroup(key)) this.#sync?.wantUser(idOf(key));
    const unread = this.store.state.sessions[key]?.unread ?? 0;
    void this.history.load(key).then(() => {
      const { messages } = this.store.raw(key);
      const at = unread ? messages.length - unread : 0;
      this.store.setChat(key, { divider: at > 0 ? messages[at]!.id : 0 });
      this.read();
    });
  }

  /** read tells the server that the user has seen the open conversation. */
  read() {
    const key = this.store.state.open;
    const conn = this.link.connection;
    if (!key || !conn || document.hidden || !document.hasFocus()) return;
    const session = this.store.state.sessions[key];
    const { messages, synced } = this.store.raw(key);
    const last = messages.at(-1);
    if (!session?.unread || !synced || !last) return;
    conn.send(IMMsgDataReadAckSchema, { userId: this.me, sessionId: idOf(key), msgId: last.id,
      sessionType: sessionType(key) });
    this.store.setUnread(key, 0);
    this.keep();
  }

  /** removeSession removes a conversation from the list of recent ones. */
  async removeSession(key: ConvKey) {
    const conn = this.link.connection;
    if (!conn) return;
    // The server has no entry of a group in which nobody has written.
    if (this.store.state.sessions[key]?.lastId !== 0) {
      const answer = await conn.call(IMRemoveSessionReqSchema, { userId: this.me,
        sessionType: sessionType(key), sessionId: idOf(key) }, IMRemoveSessionRspSchema);
      if (answer.resultCode !== 0) return;
    }
    this.store.removeSession(key);
    if (this.store.state.open === key) this.open(undefined);
    this.keep();
  }

  // Sending

  /** send sends a text. A long one becomes several. */
  async send(key: ConvKey, text: string) {
    this.#toldTyping = 0; // the message ends the sign of typing
    for (const part of splitText(text)) await this.#queue(key, { kind: "text", text: part });
  }

  /** sendSound sends a recorded sound. */
  async sendSound(key: ConvKey, sound: Recorded) {
    await this.#queue(key, { kind: "sound", seconds: sound.seconds, data: sound.data });
  }

  async #queue(key: ConvKey, content: Content) {
    // The parts of a long text keep their order after a reload.
    this.#created = Math.max(Date.now(), this.#created + 1);
    const p: Pending = { cmid: newMessageID(), conv: key, content, created: this.#created,
      state: "sending" };
    this.store.putPending(p);
    // The database comes first: a text that is sent and then forgotten would be sent twice.
    await this.#begun(p, this.#cache?.savePending(p));
  }

  /** retry sends a failed text again, behind all others. */
  async retry(p: Pending) {
    const old = Date.now() - p.created > repeatWindow;
    const again: Pending = { cmid: old ? newMessageID() : p.cmid, conv: p.conv,
      content: unwrap(p).content, created: old ? Date.now() : p.created, state: "sending" };
    this.store.removePending(p);
    this.store.putPending(again);
    // A tab that is closed meanwhile keeps one of both.
    await this.#begun(again, this.#cache?.replacePending(p.cmid, again));
  }

  /** #begun sends a text once it is stored. It is not sent if the user signs out before that. */
  async #begun(p: Pending, storing: Promise<boolean> | undefined) {
    const login = this.login();
    const stored = await storing;
    if (this.login() !== login) return;
    if (stored) this.#kept.add(p.cmid);
    this.#outbox.add(p);
  }

  /** discard forgets a failed text. */
  async discard(p: Pending) {
    this.store.removePending(p);
    await this.#cache?.removePending(p.cmid);
  }

  #transmit(p: Pending, seq: number): number {
    const id = Uint8Array.from(p.cmid.match(/../g)!, (pair) => parseInt(pair, 16));
    return this.link.connection!.send(IMMsgDataSchema, { fromUserId: this.me,
      toSessionId: idOf(p.conv), msgId: 0, createTime: 0,
      msgType: p.content.kind === "text" ? textType(p.conv) : soundType(p.conv),
      msgData: writeContent(p.content, this.#cipher), clientMsgId: id, wantRefusal: true },
      seq || undefined);
  }

  #stored(p: Pending, msgId: number) {
    const message: Message = { id: msgId, from: this.me, time: this.now(),
      content: p.content };
    this.incoming.put(p.conv, message, 0);
    this.store.removePending(p);
    void this.#cache?.removePending(p.cmid);
  }

  #failed(p: Pending, failure: Failure) {
    const failed: Pending = { cmid: p.cmid, conv: p.conv, content: p.content,
      created: p.created, state: "failed", failure };
    this.store.putPending(failed);
    void this.#cache?.savePending(failed);
  }

  /** sendPicture uploads a picture and sends it. */
  async sendPicture(key: ConvKey, file: File, id = newMessageID()) {
    const login = this.login();
    const others = () => (this.store.state.uploads[key] ?? []).filter((u) => u.id !== id);
    const known = unwrap(this.store.state).uploads[key]?.find((u) => u.id === id);
    const preview = known?.preview ?? URL.createObjectURL(file);
    const show = (state: "sending" | "failed", error?: unknown) =>
      this.store.set("uploads", key, [...others(), { id, file, preview, state, error }]);
    show("sending");
    try {
      const url = await uploadPicture(file, await this.#ticket(file.size));
      if (this.login() !== login) return; // another user may have signed in
      this.dropUpload(key, id);
      await this.send(key, pictureText(url));
    } catch (err) {
      if (this.login() === login) show("failed", err);
    }
  }

  /** dropUpload forgets a picture that was sent, or that failed. */
  dropUpload(key: ConvKey, id: string) {
    const list = this.store.state.uploads[key] ?? [];
    for (const u of list) if (u.id === id) URL.revokeObjectURL(u.preview);
    this.store.set("uploads", key, list.filter((u) => u.id !== id));
  }

  async #ticket(size: number): Promise<string> {
    const conn = this.link.connection;
    if (!this.#tickets) return "";
    if (!conn) throw new Fault("offline");
    const answer = await conn.call(IMUploadTicketReqSchema, { maxSize: size },
      IMUploadTicketRspSchema);
    return answer.ticket;
  }

  /** typing tells the other user that this one types, every few seconds. */
  typing(key: ConvKey) {
    const now = Date.now();
    if (isGroup(key) || now - this.#toldTyping < typingEvery) return;
    this.#toldTyping = now;
    this.link.connection?.send(IMP2PCmdMsgSchema, { fromUserId: this.me, toUserId: idOf(key),
      cmdMsgData: typingCommand });
  }
}
