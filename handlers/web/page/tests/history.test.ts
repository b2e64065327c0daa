import { beforeEach, expect, test } from "vitest";
import {
  IMGetMsgListReqSchema,
  IMGetMsgListRspSchema,
  type IMGetMsgListReq,
} from "../src/gen/message_pb";
import { Connection } from "../src/net/connection";
import { TextCipher } from "../src/proto/cipher";
import { History } from "../src/state/history";
import { Store } from "../src/state/store";
import type { ConvKey, Message } from "../src/state/types";
import { FakeSocket } from "./fake";

const key: ConvKey = "u2";
const cipher = new TextCipher("");

let socket: FakeSocket;
let conn: Connection | undefined;
let store: Store;
let history: History;
let saved: string[];

beforeEach(() => {
  socket = new FakeSocket();
  conn = new Connection(socket, { opened() {}, received() {}, closed() {} });
  store = new Store();
  saved = [];
  const cache = {
    messages: async () => [],
    saveMessages: async (_: ConvKey, list: Message[]) => void saved.push(ids(list)),
  };
  history = new History(store, {
    connection: () => conn,
    me: () => 1,
    cipher: () => cipher,
    cache: () => cache as any,
    named: () => {},
  });
});

const ids = (list: readonly Message[]) => {
  const all = list.map((m) => m.id);
  return all.length ? `${all[0]}-${all.at(-1)}/${all.length}` : "";
};
const loaded = () => ids(store.raw(key).messages);
const settle = () => new Promise((done) => setTimeout(done));
const message = (id: number): Message =>
  ({ id, from: 2, time: id, content: { kind: "text", text: "" } });
const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => message(from + i));

/** serve answers the waiting requests from a history of the ids 1 to last. */
async function serve(last: number, lowest = 1) {
  for (let i = 0; i < 20; i++) {
    await settle();
    const asked = socket.take(IMGetMsgListReqSchema);
    if (!asked.length) return;
    for (const { message, seq } of asked) {
      const q = message as IMGetMsgListReq;
      const from = Math.min(q.msgIdBegin || last, last);
      const list = [];
      for (let id = from; id >= lowest && list.length < q.msgCnt; id--)
        list.push({ msgId: id, fromSessionId: 2, createTime: id, msgType: 1,
          msgData: new Uint8Array() });
      socket.deliver(IMGetMsgListRspSchema, { userId: 1, sessionType: 1, sessionId: 2,
        msgIdBegin: q.msgIdBegin, msgList: list }, seq);
    }
  }
}

test("loads the newest messages, then older ones up to the beginning", async () => {
  void history.load(key);
  await serve(120);
  expect(loaded()).toBe("71-120/50");
  expect(store.raw(key).synced).toBe(true);
  void history.older(key);
  await serve(120);
  void history.older(key);
  await serve(120);
  expect(loaded()).toBe("1-120/120");
  expect(await history.older(key)).toBe(false);
  expect(store.raw(key).complete).toBe(true);
});

test("an empty answer is the beginning of a history that does not begin with 1", async () => {
  void history.load(key);
  await serve(60, 20);
  void history.older(key);
  await serve(60, 20);
  expect(loaded()).toBe("20-60/41");
  expect(store.raw(key).complete).toBe(true);
});

test("pages back to what is known, so that no gap is left", async () => {
  store.setChat(key, { messages: range(1, 100), solid: 100 });
  void history.newest(key);
  await serve(230);
  expect(loaded()).toBe("1-230/230");
  expect(saved).toEqual(["1-230/230"]);
});

test("drops old messages when the gap is too large", async () => {
  store.setChat(key, { messages: range(1, 100), solid: 100, complete: true });
  void history.newest(key);
  await serve(5000);
  expect(loaded()).toBe("4701-5000/300");
  expect(store.raw(key).complete).toBe(false);
});

test("a message that arrives before the sync hides no gap", async () => {
  store.setChat(key, { messages: [...range(1, 100), message(231)], solid: 100 });
  void history.newest(key);
  await serve(231);
  expect(loaded()).toBe("1-231/231");
});

test("forgets the messages of a store that was made anew", async () => {
  store.setChat(key, { messages: range(1, 100), solid: 100 });
  void history.newest(key);
  await serve(3);
  expect(loaded()).toBe("1-3/3");
});

test("says when the messages cannot be loaded, and loads them on the next connection", async () => {
  void history.load(key);
  await settle();
  const old = conn!;
  conn = undefined;
  old.close(1006, "");
  await settle();
  store.unsync();
  expect(store.raw(key)).toMatchObject({ synced: false, loading: false });
  socket = new FakeSocket();
  conn = new Connection(socket, { opened() {}, received() {}, closed() {} });
  void history.load(key);
  await serve(3);
  expect(loaded()).toBe("1-3/3");
});
