import { $TRACK } from "solid-js";
import { createStore, produce, unwrap, type SetStoreFunction } from "solid-js/store";
import type { Status } from "../net/link";
import type { Book } from "./cache";
import type { FileEntry } from "./files";
import type { Times } from "./sync";
import {
  groupKey,
  idOf,
  isGroup,
  type Content,
  type ConvKey,
  type Depart,
  type Group,
  type Message,
  type Pending,
  type Session,
  type User,
} from "./types";

/** Conversation is what is loaded of a conversation: messages without gaps, up to the newest. */
export interface Conversation {
  messages: readonly Message[];
  /** The beginning of the conversation is loaded. */
  complete: boolean;
  /** The list reaches the newest message. Otherwise there may be a gap behind `solid`. */
  synced: boolean;
  /** The last id up to which the list has no gap, while it is not synced. */
  solid: number;
  /** A query of the newest or of older messages is on its way. */
  loading: boolean;
  /** The last query failed. */
  failed: boolean;
  /** The first message that was unread when the conversation was opened; 0: none. */
  divider: number;
}

/** Upload is a picture on its way to the picture server. */
export interface Upload {
  id: string;
  file: File;
  /** A blob URL. */
  preview: string;
  state: "sending" | "failed";
  error: unknown;
}

/** State is everything that the page shows. Only the methods of Store change it. */
export interface State {
  /** The user of this page; undefined before the first login. */
  me: User | undefined;
  status: Status;
  /** Another tab has the connection. */
  elsewhere: boolean;
  users: Record<number, User>;
  departs: Record<number, Depart>;
  groups: Record<number, Group>;
  online: Record<number, boolean>;
  sessions: Record<ConvKey, Session>;
  chats: Record<ConvKey, Conversation>;
  pending: Record<ConvKey, Pending[]>;
  uploads: Record<ConvKey, Upload[]>;
  /** Files that are sent, or wait, by the other user. */
  files: Record<ConvKey, FileEntry[]>;
  /** Users that type, with the time at which the sign ends, in ms. */
  typing: Record<number, number>;
  open: ConvKey | undefined;
  /** The recent conversations have been loaded, from the cache or the server. */
  ready: boolean;
}

function empty(): State {
  return { me: undefined, status: { kind: "idle" }, elsewhere: false, users: {}, departs: {},
    groups: {}, online: {}, sessions: {}, chats: {}, pending: {}, uploads: {}, files: {},
    typing: {}, open: undefined, ready: false };
}

/**
 * Held is a conversation in the state. Solid takes an object of a class as it is: for others each
 * change would look at all messages, and a list would observe each field of each of them.
 */
class Held {
  constructor(fields: Conversation) {
    Object.assign(this, fields);
  }
}

const none: Conversation = { messages: [], complete: false, synced: false, solid: 0,
  loading: false, failed: false, divider: 0 };

/** Store holds the state, and has the changes that several parts make. */
export class Store {
  readonly state: State;
  readonly set: SetStoreFunction<State>;

  constructor() {
    [this.state, this.set] = createStore<State>(empty());
  }

  /** reset forgets the user. */
  reset() {
    this.set(produce((s) => Object.assign(s, empty())));
  }

  /** chat returns a conversation, also when nothing of it is loaded. */
  chat(key: ConvKey): Conversation {
    return this.state.chats[key] ?? none;
  }

  /** raw returns a conversation without observing it. */
  raw(key: ConvKey): Conversation {
    return unwrap(this.state).chats[key] ?? none;
  }

  setChat(key: ConvKey, change: Partial<Conversation>) {
    this.set("chats", key, new Held({ ...this.raw(key), ...change }) as Conversation);
  }

  /** everyone returns all users. It is observed as a whole: a change replaces a user. */
  everyone(): User[] {
    void (this.state.users as Record<symbol, unknown>)[$TRACK];
    return Object.values(unwrap(this.state).users);
  }

  /** allGroups returns all groups, in the same way. */
  allGroups(): Group[] {
    void (this.state.groups as Record<symbol, unknown>)[$TRACK];
    return Object.values(unwrap(this.state).groups);
  }

  putUsers(list: User[]) {
    this.set(produce((s) => {
      for (const u of list) {
        s.users[u.id] = u;
        if (s.me?.id === u.id) s.me = u;
      }
    }));
  }

  putGroups(list: Group[]) {
    this.set(produce((s) => {
      for (const g of list) s.groups[g.id] = g;
    }));
  }

  /** listGroup lists a group among the conversations before anybody has written in it. */
  listGroup(id: number) {
    const key = groupKey(id);
    if (this.state.sessions[key]) return;
    this.putSessions([{ key, updated: Math.floor(Date.now() / 1000), lastId: 0, lastFrom: 0,
      last: { kind: "text", text: "" }, unread: 0 }]);
  }

  /**
   * setMembers sets the members of a group. A group that this user is not in any more leaves the
   * list of conversations if it has no message there.
   */
  setMembers(id: number, members: number[]) {
    const group = this.state.groups[id];
    if (group) this.putGroups([{ ...group, members }]);
    const key = groupKey(id);
    const me = this.state.me?.id;
    if (me && !members.includes(me) && this.state.sessions[key]?.lastId === 0)
      this.removeSession(key);
  }

  /** outside reports whether this user is known not to be in the group of a conversation. */
  outside(key: ConvKey): boolean {
    const group = isGroup(key) ? this.state.groups[idOf(key)] : undefined;
    const me = this.state.me?.id;
    return !!me && !!group && !group.members.includes(me);
  }

  putDeparts(list: (Depart & { gone?: boolean })[]) {
    this.set(produce((s) => {
      for (const d of list) {
        if (d.gone) delete s.departs[d.id];
        else s.departs[d.id] = d;
      }
    }));
  }

  putSessions(list: Session[]) {
    this.set(produce((s) => {
      for (const one of list) s.sessions[one.key] = one;
    }));
  }

  removeSession(key: ConvKey) {
    this.set(produce((s) => {
      delete s.sessions[key];
    }));
  }

  /** touch records the newest message of a conversation. It reports whether it is new. */
  touch(key: ConvKey, m: Message, unread: number): boolean {
    const now = this.state.sessions[key];
    if (now && m.id <= now.lastId) return false;
    this.set("sessions", key, { key, updated: m.time, lastId: m.id, lastFrom: m.from,
      last: preview(m.content), unread: (now?.unread ?? 0) + unread });
    return true;
  }

  setUnread(key: ConvKey, unread: number) {
    if (this.state.sessions[key]) this.set("sessions", key, "unread", unread);
  }

  putPending(p: Pending) {
    const list = this.state.pending[p.conv] ?? [];
    const others = list.filter((o) => o.cmid !== p.cmid);
    const at = list.findIndex((o) => o.cmid === p.cmid);
    others.splice(at < 0 ? others.length : at, 0, p);
    this.set("pending", p.conv, others);
  }

  removePending(p: Pending) {
    const list = this.state.pending[p.conv] ?? [];
    this.set("pending", p.conv, list.filter((o) => o.cmid !== p.cmid));
  }

  /** unsync marks all conversations as possibly incomplete: the connection ended. */
  unsync() {
    for (const [key, c] of Object.entries(unwrap(this.state).chats))
      this.setChat(key as ConvKey, { synced: false, loading: false,
        solid: c.synced ? c.messages.at(-1)?.id ?? 0 : c.solid });
    this.set(produce((s) => {
      s.typing = {};
    }));
  }

  /** book returns what is kept for the next visit. */
  book(times: Times): Book {
    const s = unwrap(this.state);
    const sessions = Object.values(s.sessions).map((one) => unwrap(one));
    return { users: Object.values(s.users), usersTime: times.users,
      departs: Object.values(s.departs), departsTime: times.departs,
      groups: Object.values(s.groups), sessions, sessionsTime: times.sessions };
  }

  /** nick returns the name of a user as the page shows it. */
  nick(id: number): string {
    const u = this.state.users[id];
    return (u && (plainName(u.nick) || plainName(u.name))) || `#${id}`;
  }

  /** title returns the name of a conversation. */
  title(key: ConvKey): string {
    if (!isGroup(key)) return this.nick(idOf(key));
    return plainName(this.state.groups[idOf(key)]?.name ?? "") || `#${idOf(key)}`;
  }
}

/** Control characters, and those without a glyph that hide or reverse what stands around them. */
const unseen =
  /[\p{Cc}\p{Zl}\p{Zp}\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]/gu;

/** A character that leaves a mark where it stands alone: servers want one in the name of a group. */
const seen = /(?![\p{Default_Ignorable_Code_Point}\u2800])[\p{L}\p{N}\p{P}\p{S}]/u;

/**
 * plainName returns a name that others chose, without what would make it look like another; "" for
 * one that shows nothing.
 */
export function plainName(name: string): string {
  return seen.test(name) ? name.replace(unseen, "").trim() : "";
}

/** preview returns a content without its large parts, for the list of conversations. */
export function preview(c: Content): Content {
  if (c.kind === "sound") return { kind: "sound", seconds: c.seconds };
  return { kind: "text", text: c.text.slice(0, 200) };
}
