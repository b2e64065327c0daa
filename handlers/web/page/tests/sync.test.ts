import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  IMAllUserReqSchema,
  IMAllUserRspSchema,
  IMDepartmentReqSchema,
  IMDepartmentRspSchema,
  IMRecentContactSessionReqSchema,
  IMRecentContactSessionRspSchema,
  IMUsersInfoReqSchema,
  IMUsersInfoRspSchema,
  IMUsersStatReqSchema,
  IMUsersStatRspSchema,
  type IMRecentContactSessionReq,
  type IMUsersInfoReq,
} from "../src/gen/buddy_pb";
import {
  IMGroupInfoListReqSchema,
  IMGroupInfoListRspSchema,
  IMNormalGroupListReqSchema,
  IMNormalGroupListRspSchema,
} from "../src/gen/group_pb";
import { IMUnreadMsgCntReqSchema, IMUnreadMsgCntRspSchema } from "../src/gen/message_pb";
import { Connection } from "../src/net/connection";
import { TextCipher } from "../src/proto/cipher";
import { Store } from "../src/state/store";
import { Sync, type Times } from "../src/state/sync";
import type { Session } from "../src/state/types";
import { FakeSocket } from "./fake";

const bytes = (text: string) => new TextEncoder().encode(text);
const user = (userId: number) => ({ userId, userGender: 0, userNickName: `nick ${userId}`,
  avatarUrl: "", departmentId: 1, email: "", userRealName: `name${userId}`, userTel: "",
  userDomain: "", status: 0 });
const session = (sessionId: number, updatedTime: number, latestMsgId: number, gone = 0) => ({
  sessionId, sessionType: 1, sessionStatus: gone, updatedTime, latestMsgId,
  latestMsgData: bytes("last"), latestMsgType: 1, latestMsgFromUserId: sessionId });
const known = (id: number, lastId: number, unread: number): Session => ({ key: `u${id}`,
  updated: 50, lastId, lastFrom: id, last: { kind: "text", text: "old" }, unread });

let socket: FakeSocket;
let conn: Connection;
let store: Store;
let times: Times;
let sync: Sync;

beforeEach(() => {
  vi.useFakeTimers();
  socket = new FakeSocket();
  conn = new Connection(socket, { opened() {}, received() {}, closed() {} });
  store = new Store();
  store.set("me", { id: 1, name: "alice", pinyin: "", nick: "Alice", avatar: "", depart: 0,
    sign: "", email: "", tel: "", gone: false });
  times = { users: 0, departs: 0, sessions: 0 };
  sync = new Sync(conn, store, new TextCipher(""), 1, times);
});

afterEach(() => {
  sync.end();
  vi.useRealTimers();
});

/** answer answers all requests of a kind that wait, and lets the page go on. */
async function answer<S extends DescMessage>(request: DescMessage, schema: S,
  fields: MessageInitShape<S>) {
  const asked = socket.take(request);
  for (const { seq } of asked) socket.deliver(schema, fields, seq);
  await vi.advanceTimersByTimeAsync(0);
  return asked.map((a) => a.message);
}

const sessions = (...list: ReturnType<typeof session>[]) => answer(
  IMRecentContactSessionReqSchema, IMRecentContactSessionRspSchema,
  { userId: 1, contactSessionList: list });
const unread = (...list: { sessionId: number; unreadCnt: number; latestMsgId: number }[]) => answer(
  IMUnreadMsgCntReqSchema, IMUnreadMsgCntRspSchema, { userId: 1, totalCnt: 0,
    unreadinfoList: list.map((u) => ({ sessionType: 1, latestMsgData: bytes("last"),
      latestMsgType: 1, latestMsgFromUserId: u.sessionId, ...u })) });

test("takes the conversations and their unread counts", async () => {
  store.putSessions([known(2, 5, 3), known(3, 5, 3), known(4, 5, 3)]);
  void sync.run();
  await sessions(session(2, 100, 9), session(4, 90, 5, 1));
  await unread({ sessionId: 2, unreadCnt: 4, latestMsgId: 9 },
    { sessionId: 7, unreadCnt: 1, latestMsgId: 1 });
  expect(store.state.sessions.u2).toMatchObject({ lastId: 9, unread: 4 });
  expect(store.state.sessions.u3!.unread).toBe(0); // read on another device
  expect(store.state.sessions.u4).toBeUndefined(); // removed
  expect(store.state.sessions.u7).toMatchObject({ lastId: 1, unread: 1 });
});

test("asks for conversations since the last answer, not since the last message", async () => {
  void sync.run();
  await sessions(session(2, 100, 9));
  store.touch("u2", { id: 10, from: 2, time: 500, content: { kind: "text", text: "" } }, 1);
  sync.end();
  const again = new Sync(conn, store, new TextCipher(""), 1, times);
  void again.run();
  const [asked] = await sessions();
  expect((asked as IMRecentContactSessionReq).latestUpdateTime).toBe(100);
  again.end();
});

test("a message that arrived during the sync stays the last one", async () => {
  void sync.run();
  store.touch("u2", { id: 10, from: 2, time: 500, content: { kind: "text", text: "new" } }, 1);
  await sessions(session(2, 100, 9));
  expect(store.state.sessions.u2).toMatchObject({ lastId: 10, last: { text: "new" } });
});

test("asks again when no answer comes: silence is not an empty list", async () => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  store.putSessions([known(2, 5, 3)]);
  void sync.run();
  await sessions();
  expect(socket.take(IMUnreadMsgCntReqSchema).length).toBe(1);
  await vi.advanceTimersByTimeAsync(15_000 + 3000);
  expect(store.state.sessions.u2!.unread).toBe(3);
  await unread();
  expect(store.state.sessions.u2!.unread).toBe(0);
  vi.restoreAllMocks();
});

test("takes users, departments and presence", async () => {
  void sync.run();
  await answer(IMDepartmentReqSchema, IMDepartmentRspSchema, { userId: 1, latestUpdateTime: 7,
    deptList: [{ deptId: 1, priority: 0, deptName: "Sales", parentDeptId: 0, deptStatus: 0 }] });
  await answer(IMAllUserReqSchema, IMAllUserRspSchema,
    { userId: 1, latestUpdateTime: 8, userList: [user(1), { ...user(2), status: 3 }, user(3)] });
  await answer(IMUsersStatReqSchema, IMUsersStatRspSchema, { userId: 1,
    userStatList: [{ userId: 1, status: 2 }, { userId: 3, status: 1 }] });
  expect(store.state.departs[1]!.name).toBe("Sales");
  expect(store.nick(3)).toBe("nick 3");
  expect(store.state.users[2]!.gone).toBe(true);
  expect(store.state.online).toEqual({ 1: false, 3: true });
  expect(times).toMatchObject({ users: 8, departs: 7 });
});

test("asks for the groups that have changed, and for their unknown members", async () => {
  store.putGroups([{ id: 8, version: 2, name: "same", creator: 1, normal: false, members: [1] }]);
  void sync.run();
  await answer(IMNormalGroupListReqSchema, IMNormalGroupListRspSchema, { userId: 1,
    groupVersionList: [{ groupId: 8, version: 2 }, { groupId: 9, version: 1 }] });
  const asked = await answer(IMGroupInfoListReqSchema, IMGroupInfoListRspSchema, { userId: 1,
    groupInfoList: [{ groupId: 9, version: 1, groupName: "new", groupAvatar: "",
      groupCreatorId: 2, groupType: 2, shieldStatus: 0, groupMemberList: [1, 2, 5] }] });
  expect(asked).toMatchObject([{ groupVersionList: [{ groupId: 9, version: 0 }] }]);
  expect(store.state.groups[9]).toMatchObject({ name: "new", members: [1, 2, 5] });
  await vi.advanceTimersByTimeAsync(100);
  const users = socket.take(IMUsersInfoReqSchema)[0]!.message as IMUsersInfoReq;
  expect(users.userIdList).toEqual([1, 2, 5]);
});

test("is not in a group any more that a list of all groups lacks", async () => {
  const group = { version: 2, name: "g", creator: 5, normal: false, members: [1, 5] };
  store.putGroups([{ ...group, id: 7 }, { ...group, id: 8 }, { ...group, id: 9 }]);
  store.listGroup(7);
  void sync.run();
  store.putGroups([{ ...group, id: 9 }]); // a change that the answer does not know
  await answer(IMNormalGroupListReqSchema, IMNormalGroupListRspSchema, { userId: 1,
    everyType: true, groupVersionList: [{ groupId: 8, version: 2 }] });
  expect(store.state.groups[7]!.members).toEqual([5]);
  expect(store.state.sessions.g7).toBeUndefined();
  expect(store.state.groups[8]!.members).toEqual([1, 5]);
  expect(store.state.groups[9]!.members).toEqual([1, 5]);
});

test("asks for all users of a large group, in several requests", async () => {
  for (let id = 2; id <= 1202; id++) sync.wantUser(id);
  await vi.advanceTimersByTimeAsync(100);
  const asked: number[] = [];
  for (let n = 0; n < 3; n++) {
    const [request] = await answer(IMUsersInfoReqSchema, IMUsersInfoRspSchema,
      { userId: 1, userInfoList: [] });
    asked.push(...(request as IMUsersInfoReq).userIdList);
  }
  expect(new Set(asked).size).toBe(1201);
});
