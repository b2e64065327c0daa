import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { beforeEach, expect, test, vi } from "vitest";
import { IMUserStatNotifySchema } from "../src/gen/buddy_pb";
import {
  IMFileAddOfflineReqSchema,
  IMFileDelOfflineReqSchema,
  IMFileNotifySchema,
} from "../src/gen/file_pb";
import {
  IMGroupChangeMemberNotifySchema,
  IMGroupChangeMemberReqSchema,
  IMGroupChangeMemberRspSchema,
  IMGroupCreateReqSchema,
  IMGroupCreateRspSchema,
} from "../src/gen/group_pb";
import {
  IMMsgDataAckSchema,
  IMMsgDataReadNotifySchema,
  IMMsgDataSchema,
  type IMMsgDataAck,
} from "../src/gen/message_pb";
import { IMP2PCmdMsgSchema } from "../src/gen/switch_pb";
import { Connection } from "../src/net/connection";
import { TextCipher } from "../src/proto/cipher";
import { Files } from "../src/state/files";
import { Groups } from "../src/state/groups";
import { Incoming } from "../src/state/incoming";
import { Outbox } from "../src/state/outbox";
import { Store } from "../src/state/store";
import { splitText, readTyping, typingCommand } from "../src/state/text";
import { FakeSocket } from "./fake";

const me = 1;
const cipher = new TextCipher("");
const bytes = (text: string) => new TextEncoder().encode(text);

let socket: FakeSocket;
let store: Store;
let stored: string[];
let outbox: Outbox;
let stats: number[];
let wanted: number[];
let files: Files;
let conn: Connection;

beforeEach(() => {
  socket = new FakeSocket();
  store = new Store();
  store.set("me", { id: me, name: "alice", pinyin: "", nick: "Alice", avatar: "", depart: 0,
    sign: "", email: "", tel: "", gone: false });
  stored = [];
  stats = [];
  wanted = [];
  outbox = new Outbox({
    transmit: () => 5,
    stored: (p, id) => stored.push(`${p.cmid}=${id}`),
    failed: (p, why) => stored.push(`${p.cmid}: ${why}`),
  });
  outbox.online();
  let incoming!: Incoming;
  conn = new Connection(socket, { opened() {}, closed() {},
    received: (pdu) => incoming.received(pdu) });
  files = new Files(store, () => conn);
  const sync = { wantUser() {}, wantGroup: (id: number) => wanted.push(id),
    wantStat: (id: number) => stats.push(id) };
  incoming = new Incoming({ me, store, sync, cipher, cache: undefined, link: { connection: conn },
    files, read() {}, keep() {} } as any, outbox);
});

const data = (msgId: number, from: number, to: number, msgType = 1) => socket.deliver(
  IMMsgDataSchema, { fromUserId: from, toSessionId: to, msgId, createTime: msgId, msgType,
    msgData: bytes("text " + msgId) });
const acks = () => socket.take(IMMsgDataAckSchema)
  .map(({ message: m }) => m as IMMsgDataAck)
  .map((m) => `${m.sessionType}:${m.sessionId}:${m.msgId}`);

test("acks each message, and counts it once as unread", () => {
  data(7, 2, me);
  data(8, 2, me);
  data(7, 2, me); // delivered again
  expect(acks()).toEqual(["1:2:7", "1:2:8", "1:2:7"]);
  expect(store.state.sessions.u2).toMatchObject({ unread: 2, lastId: 8 });
});

test("a message of another device of this user belongs to the peer, and is read", () => {
  data(7, me, 2);
  expect(acks()).toEqual(["1:2:7"]);
  expect(store.state.sessions.u2).toMatchObject({ unread: 0, lastFrom: me });
});

test("a group message belongs to the group, which is asked for when it is new", () => {
  data(3, 2, 9, 0x11);
  expect(acks()).toEqual(["2:9:3"]);
  expect(store.state.sessions.g9).toMatchObject({ unread: 1, lastFrom: 2 });
  expect(wanted).toEqual([9]);
});

test("puts messages into an open conversation in the order of their ids", () => {
  store.setChat("u2", { synced: true });
  for (const id of [5, 9, 7, 9]) data(id, 2, me);
  expect(store.raw("u2").messages.map((m) => m.id)).toEqual([5, 7, 9]);
});

test("an ack without the field refusal is no refusal", () => {
  const text = (text: string) => outbox.add({ cmid: text, conv: "u2",
    content: { kind: "text", text }, created: 0, state: "sending" });
  text("a");
  socket.deliver(IMMsgDataAckSchema, { userId: me, sessionId: 2, msgId: 7, sessionType: 1 }, 5);
  text("b");
  socket.deliver(IMMsgDataAckSchema,
    { userId: me, sessionId: 2, msgId: 0, sessionType: 1, refusal: 2 }, 5);
  expect(stored).toEqual(["a=7", "b: rejected"]);
});

test("what another device has read is read", () => {
  data(7, 2, me);
  socket.deliver(IMMsgDataReadNotifySchema, { userId: me, sessionId: 2, msgId: 7, sessionType: 1 });
  expect(store.state.sessions.u2!.unread).toBe(0);
});

test("asks whether a user whose pc is gone has a phone", () => {
  const stat = (status: number) =>
    socket.deliver(IMUserStatNotifySchema, { userStat: { userId: 2, status } });
  stat(1);
  expect(store.state.online[2]).toBe(true);
  stat(2);
  expect(store.state.online[2]).toBe(true);
  expect(stats).toEqual([2]);
});

test("takes signs of typing, also the bare word", () => {
  expect(readTyping(typingCommand)).toBe(true);
  expect(readTyping("typing")).toBe(true);
  expect(readTyping('{"service_id":1,"cmd_id":131074}')).toBe(false);
  expect(readTyping('{"service_id":2,"cmd_id":131073}')).toBeUndefined();
  expect(readTyping("null")).toBeUndefined();
  socket.deliver(IMP2PCmdMsgSchema, { fromUserId: 2, toUserId: me, cmdMsgData: typingCommand });
  expect(store.state.typing[2]).toBeGreaterThan(Date.now());
  data(7, 2, me);
  expect(store.state.typing[2]).toBe(0);
});

test("takes the members of a group after a change", () => {
  store.putGroups([{ id: 9, version: 1, name: "g", creator: 2, normal: false, members: [1, 2] }]);
  socket.deliver(IMGroupChangeMemberNotifySchema, { userId: 2, changeType: 2, groupId: 9,
    curUserIdList: [2], chgUserIdList: [1] });
  expect(store.state.groups[9]!.members).toEqual([2]);
});

test("lists a group when this user is added, and not when it is removed again", () => {
  const change = (changeType: number, curUserIdList: number[], ...chgUserIdList: number[]) =>
    socket.deliver(IMGroupChangeMemberNotifySchema, { userId: 2, changeType, groupId: 9,
      curUserIdList, chgUserIdList });
  change(1, [1, 2], 1);
  expect(wanted).toEqual([9]);
  expect(store.state.sessions.g9).toMatchObject({ lastId: 0, unread: 0 });
  change(1, [1, 2, 3], 3);
  change(2, [2, 3], 1);
  expect(store.state.sessions.g9).toBeUndefined();
  change(1, [1, 2, 3], 1);
  data(7, 2, 9, 17);
  expect(store.state.sessions.g9).toMatchObject({ lastId: 7, unread: 1 });
  change(2, [2, 3], 1); // its messages stay
  expect(store.state.sessions.g9).toMatchObject({ lastId: 7 });
});

test("lists no group because of others", () => {
  socket.deliver(IMGroupChangeMemberNotifySchema, { userId: 2, changeType: 1, groupId: 9,
    curUserIdList: [1, 2, 3], chgUserIdList: [3] });
  expect(store.state.sessions.g9).toBeUndefined();
});

/** reply answers the last request of a kind. */
function reply<S extends DescMessage>(request: DescMessage, schema: S,
  fields: MessageInitShape<S>) {
  socket.deliver(schema, fields, socket.take(request).at(-1)!.seq);
}

test("lists a group that this user makes, until it leaves", async () => {
  const groups = new Groups(store, () => conn);
  const made = groups.create("g", [2]);
  reply(IMGroupCreateReqSchema, IMGroupCreateRspSchema, { userId: 1, resultCode: 0,
    groupId: 9, groupName: "g", userIdList: [1, 2] });
  expect(await made).toBe("g9");
  expect(store.state.sessions.g9).toMatchObject({ lastId: 0 });
  expect(store.outside("g9")).toBe(false);
  const left = groups.leave(9);
  reply(IMGroupChangeMemberReqSchema, IMGroupChangeMemberRspSchema, { userId: 1,
    changeType: 2, resultCode: 0, groupId: 9, curUserIdList: [2], chgUserIdList: [1] });
  await left;
  expect(store.state.sessions.g9).toBeUndefined();
  expect(store.outside("g9")).toBe(true);
});

test("lists a file when it is whole, once, and removes it from the server", () => {
  const notice = (offlineReady: number) => socket.deliver(IMFileNotifySchema, { fromUserId: 2,
    toUserId: me, fileName: "a.pdf", fileSize: 5, taskId: "t", transMode: 2, offlineReady,
    ipAddrList: [{ ip: "::1", port: 8600 }] });
  notice(0);
  expect(store.state.files.u2).toBeUndefined();
  notice(1);
  notice(1);
  expect(store.state.files.u2).toHaveLength(1);
  expect(store.state.files.u2![0]).toMatchObject({ state: "waiting", server: "[::1]:8600" });
  files.dismiss("u2", store.state.files.u2![0]!);
  expect(store.state.files.u2).toHaveLength(0);
  expect(socket.take(IMFileDelOfflineReqSchema)[0]!.message).toMatchObject(
    { fromUserId: 2, toUserId: me, taskId: "t" });
});

test("splits a long text at words, and loses nothing", () => {
  const text = "你好 word ".repeat(900).trim();
  const parts = splitText(text);
  expect(parts.length).toBeGreaterThan(2);
  for (const part of parts) expect(bytes(part).length).toBeLessThanOrEqual(3000);
  expect(parts.join(" ").replace(/\s+/g, " ")).toBe(text);
  expect(splitText("字".repeat(2500)).join("")).toBe("字".repeat(2500));
  expect(splitText("  ")).toEqual([]);
});

test("shows the last offers of direct files only", () => {
  const offer = (taskId: string, transMode: number) => socket.deliver(IMFileNotifySchema,
    { fromUserId: 2, toUserId: me, fileName: taskId, fileSize: 1, ipAddrList: [], taskId, transMode,
      offlineReady: 1 });
  offer("stored", 2);
  for (let n = 0; n < 100; n++) offer("direct" + n, 1);
  expect(store.state.files.u2!.map((f) => f.task)).toEqual(
    ["stored", "direct95", "direct96", "direct97", "direct98", "direct99"]);
});

test("tells the receiver of a file after the next login, if it was uploaded without one", async () => {
  const upload = { open() {}, upload: {}, responseText: '{"error_code":0}', onload() {},
    send() { this.onload(); } };
  vi.stubGlobal("XMLHttpRequest", function () { return upload; });
  let there = false;
  files = new Files(store, () => (there ? conn : undefined));
  const entry = { id: "1", task: "t", name: "a.txt", size: 1, own: true, direct: false,
    state: "failed" as const, progress: 0, error: "", server: "h:1" };
  await files.send("u2", new File(["x"], "a.txt"), entry);
  expect(store.state.files.u2![0]!.state).toBe("done");
  expect(socket.take(IMFileAddOfflineReqSchema)).toEqual([]);
  there = true;
  files.online();
  expect(socket.take(IMFileAddOfflineReqSchema)).toHaveLength(1);
  files.online();
  expect(socket.take(IMFileAddOfflineReqSchema)).toEqual([]);
  vi.unstubAllGlobals();
});
