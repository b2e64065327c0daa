import { IMGetMsgListReqSchema, IMGetMsgListRspSchema } from "../gen/message_pb";
import type { Connection } from "../net/connection";
import type { TextCipher } from "../proto/cipher";
import type { Cache } from "./cache";
import { fromInfo, joins, merge } from "./messages";
import type { Store } from "./store";
import { idOf, sessionType, type ConvKey, type Message } from "./types";

const pageSize = 50;
/** Pages that are loaded to close a gap. Beyond them the older messages are dropped. */
const mostPages = 6;
/** Messages that remain of a conversation when it is left. */
const keepLoaded = 200;

/** Where the history comes from. */
export interface Source {
  connection(): Connection | undefined;
  me(): number;
  cipher(): TextCipher;
  cache(): Cache | undefined;
  /** A message names a user. */
  named(user: number): void;
}

/** History loads the messages of conversations. */
export class History {
  readonly #store: Store;
  readonly #from: Source;

  constructor(store: Store, from: Source) {
    this.#store = store;
    this.#from = from;
  }

  /** load shows what the cache has of a conversation, and asks the server for the rest. */
  async load(key: ConvKey) {
    if (!this.#store.state.chats[key]) {
      const cache = this.#from.cache();
      const cached = (await cache?.messages(key)) ?? [];
      if (this.#from.cache() !== cache) return; // another user has signed in
      if (this.#store.state.chats[key]) return this.newest(key);
      this.#store.setChat(key, { messages: cached, solid: cached.at(-1)?.id ?? 0 });
      for (const m of cached) this.#from.named(m.from);
    }
    await this.newest(key);
  }

  /** newest loads the messages between the known ones and the end of the conversation. */
  async newest(key: ConvKey) {
    const conn = this.#from.connection();
    const chat = this.#store.raw(key);
    if (!conn || chat.synced || chat.loading) return;
    this.#store.setChat(key, { loading: true, failed: false });
    const before = chat.messages;
    const solid = before.filter((m) => m.id <= chat.solid);
    try {
      let got: Message[] = [];
      for (let page = 0; page < mostPages; page++) {
        const more = await this.#page(conn, key, page ? got[0]!.id - 1 : 0);
        got = [...more, ...got];
        if (!more.length || got[0]!.id <= 1 || joins(solid, got)) break;
      }
      if (this.#from.connection() !== conn) return;
      this.#join(key, solid, got, before.at(-1)?.id ?? 0);
    } catch {
      if (this.#from.connection() === conn)
        this.#store.setChat(key, { loading: false, failed: true });
    }
  }

  #join(key: ConvKey, solid: readonly Message[], got: Message[], last: number) {
    const chat = this.#store.raw(key);
    // Messages of another history: the server's store was made anew.
    const other = last > (got.at(-1)?.id ?? 0);
    const gap = !joins(solid, got);
    const known = other ? [] : gap
      ? chat.messages.filter((m) => m.id > chat.solid)
      : chat.messages;
    const messages = merge(known, got);
    const complete = messages === chat.messages || !(other || gap) ? chat.complete : false;
    this.#store.setChat(key, { messages, synced: true, loading: false,
      complete: complete || (solid.length === 0 && got.length === 0) });
    for (const m of got) this.#from.named(m.from);
    void this.#from.cache()?.saveMessages(key, messages);
  }

  /** older loads a page of older messages. It reports whether there were any. */
  async older(key: ConvKey): Promise<boolean> {
    const conn = this.#from.connection();
    const chat = this.#store.raw(key);
    const first = chat.messages[0];
    if (!conn || !chat.synced || chat.loading || chat.complete || !first) return false;
    if (first.id <= 1) {
      this.#store.setChat(key, { complete: true });
      return false;
    }
    this.#store.setChat(key, { loading: true, failed: false });
    try {
      const got = await this.#page(conn, key, first.id - 1);
      if (this.#from.connection() !== conn) return false;
      const messages = merge(this.#store.raw(key).messages, got);
      this.#store.setChat(key, { messages, loading: false, complete: !got.length });
      for (const m of got) this.#from.named(m.from);
      return got.length > 0;
    } catch {
      if (this.#from.connection() === conn)
        this.#store.setChat(key, { loading: false, failed: true });
      return false;
    }
  }

  /** leave forgets old messages of a conversation that is no longer shown. */
  leave(key: ConvKey) {
    const { messages } = this.#store.raw(key);
    if (messages.length > keepLoaded)
      this.#store.setChat(key, { messages: messages.slice(-keepLoaded), complete: false });
  }

  /** #page returns up to pageSize messages up to an id, oldest first; 0: the newest. */
  async #page(conn: Connection, key: ConvKey, from: number): Promise<Message[]> {
    const answer = await conn.call(IMGetMsgListReqSchema, { userId: this.#from.me(),
      sessionType: sessionType(key), sessionId: idOf(key), msgIdBegin: from, msgCnt: pageSize },
      IMGetMsgListRspSchema);
    const list = answer.msgList.map((m) => fromInfo(m, this.#from.cipher()));
    return [...merge([], list)];
  }
}
