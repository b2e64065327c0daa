import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { IMUsersInfoReqSchema, IMUsersInfoRspSchema } from "../src/gen/buddy_pb";
import { IMKickUserSchema, IMLoginReqSchema, IMLoginResSchema } from "../src/gen/login_pb";
import { IMHeartBeatSchema } from "../src/gen/other_pb";
import { Link, type Status } from "../src/net/link";
import { FakeSocket } from "./fake";

const user = { userId: 1, userGender: 0, userNickName: "Alice", avatarUrl: "", departmentId: 0,
  email: "", userRealName: "alice", userTel: "", userDomain: "", status: 0 };

let sockets: FakeSocket[];
let statuses: Status[];
let online: number;
let link: Link;

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  statuses = [];
  online = 0;
  const dial = () => {
    sockets.push(new FakeSocket());
    return sockets.at(-1)!;
  };
  link = new Link(dial, {
    status: (s) => statuses.push(s),
    online: () => online++,
    received: () => {},
  }, "page/test");
});

afterEach(() => {
  vi.useRealTimers();
});

/** answerLogin opens the newest connection and answers its login. */
async function answerLogin(code = 0, text = "") {
  const socket = sockets.at(-1)!;
  socket.open();
  const login = socket.take(IMLoginReqSchema)[0]!;
  const userInfo = code ? undefined : user;
  socket.deliver(IMLoginResSchema,
    { serverTime: 1, resultCode: code, resultString: text, userInfo }, login.seq);
  await vi.advanceTimersByTimeAsync(0);
  return socket;
}

test("logs in", async () => {
  link.start({ name: "alice", digest: "d" });
  await answerLogin();
  expect(link.status.kind).toBe("online");
  expect(online).toBe(1);
});

test("shows a refusal, and does not try again", async () => {
  link.start({ name: "alice", digest: "d" });
  await answerLogin(6, "wrong name or password");
  await vi.advanceTimersByTimeAsync(300_000);
  expect(link.status).toEqual({ kind: "ended",
    reason: { kind: "refused", text: "wrong name or password", code: 0 } });
  expect(sockets.length).toBe(1);
});

test("tries again while the servers are busy", async () => {
  link.start({ name: "alice", digest: "d" });
  await answerLogin(3, "busy");
  expect(link.status.kind).toBe("waiting");
  await vi.advanceTimersByTimeAsync(1000);
  expect(sockets.length).toBe(2);
});

test("does not connect again after a kick, until the user asks for it", async () => {
  link.start({ name: "alice", digest: "d" });
  const socket = await answerLogin();
  socket.deliver(IMKickUserSchema, { userId: 1, kickReason: 1, text: "by 10.0.0.2" });
  socket.drop(1008, "kicked");
  await vi.advanceTimersByTimeAsync(300_000);
  expect(link.status).toEqual({ kind: "ended",
    reason: { kind: "kicked", text: "by 10.0.0.2", code: 0 } });
  expect(sockets.length).toBe(1);
  link.retry();
  expect(sockets.length).toBe(2);
});

test("waits longer after each failure, up to a minute", async () => {
  link.start({ name: "alice", digest: "d" });
  let last = 0;
  for (let i = 0; i < 10; i++) {
    sockets.at(-1)!.drop();
    const status = link.status as Extract<Status, { kind: "waiting" }>;
    const wait = status.until - Date.now();
    const most = Math.min(60_000, 1000 * 2 ** i);
    expect(wait).toBeLessThanOrEqual(most);
    if (i) expect(wait).toBeGreaterThanOrEqual(most / 2);
    last = wait;
    await vi.advanceTimersByTimeAsync(wait + 1);
    expect(sockets.length).toBe(i + 2);
  }
  expect(last).toBeGreaterThan(29_000);
});

test("begins with short waits again after a steady connection", async () => {
  link.start({ name: "alice", digest: "d" });
  for (let i = 0; i < 5; i++) {
    sockets.at(-1)!.drop();
    await vi.advanceTimersByTimeAsync(60_000);
  }
  const socket = await answerLogin();
  await vi.advanceTimersByTimeAsync(20_000);
  socket.drop(1001, "drain");
  const status = link.status as Extract<Status, { kind: "waiting" }>;
  expect(status.until - Date.now()).toBeLessThanOrEqual(1000);
  expect(status.reason).toEqual({ kind: "closed", text: "drain", code: 1001 });
});

test("sends a heartbeat after 30 s, and leaves a server that is silent for 60 s", async () => {
  link.start({ name: "alice", digest: "d" });
  const socket = await answerLogin();
  for (let s = 0; s < 35; s += 5) {
    await vi.advanceTimersByTimeAsync(5000);
    link.tick();
  }
  const beats = socket.take(IMHeartBeatSchema);
  expect(beats.length).toBe(1);
  socket.deliver(IMHeartBeatSchema, {}, beats[0]!.seq);
  for (let s = 0; s < 60; s += 5) {
    await vi.advanceTimersByTimeAsync(5000);
    link.tick();
  }
  expect(link.status.kind).toBe("online");
  await vi.advanceTimersByTimeAsync(5000);
  link.tick();
  expect(link.status).toMatchObject({ kind: "waiting", reason: { kind: "silent" } });
  expect(socket.ended).toBe(true);
});

test("finds the answer to a call by command and seq", async () => {
  link.start({ name: "alice", digest: "d" });
  const socket = await answerLogin();
  const conn = link.connection!;
  const answer = conn.call(IMUsersInfoReqSchema, { userId: 1, userIdList: [2] },
    IMUsersInfoRspSchema);
  const seq = socket.take(IMUsersInfoReqSchema)[0]!.seq;
  socket.deliver(IMHeartBeatSchema, {}, seq);
  socket.deliver(IMUsersInfoRspSchema, { userId: 1, userInfoList: [user] }, seq + 1);
  socket.deliver(IMUsersInfoRspSchema, { userId: 1, userInfoList: [] }, seq);
  expect((await answer).userInfoList.length).toBe(0);
});

test("a call fails when the connection ends, and when no answer comes", async () => {
  link.start({ name: "alice", digest: "d" });
  const socket = await answerLogin();
  const ask = () => link.connection!.call(IMUsersInfoReqSchema, { userId: 1 },
    IMUsersInfoRspSchema).catch((err: Error) => err.message);
  const unanswered = ask();
  await vi.advanceTimersByTimeAsync(15_000);
  expect(await unanswered).toContain("no answer");
  const cut = ask();
  socket.drop();
  expect(await cut).toBe("the connection ended");
});

test("sends heartbeats also when the clock is set back", async () => {
  link.start({ name: "alice", digest: "d" });
  const socket = await answerLogin();
  vi.setSystemTime(Date.now() - 3600_000);
  for (let n = 0; n < 7; n++) {
    vi.advanceTimersByTime(5000);
    link.tick();
  }
  expect(socket.take(IMHeartBeatSchema).length).toBeGreaterThan(0);
  vi.advanceTimersByTime(61_000);
  link.tick();
  expect(socket.ended).toBe(true);
});
