import "fake-indexeddb/auto";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { IMMsgDataSchema, type IMMsgData } from "../src/gen/message_pb";
import { IMLoginReqSchema, IMLoginResSchema } from "../src/gen/login_pb";
import { App } from "../src/state/app";
import { FakeSocket } from "./fake";

let sockets: FakeSocket[];
const config = { websocket: "/ws", register: { enabled: false, invite: false }, text_key: "",
  files: false, name: "TeamTalk", version: "test" };
const user = { userId: 1, userGender: 0, userNickName: "Alice", avatarUrl: "", departmentId: 0,
  email: "", userRealName: "alice", userTel: "", userDomain: "", status: 0 };

/** storage is a sessionStorage or localStorage. */
function storage() {
  const all = new Map<string, string>();
  return { all, getItem: (name: string) => all.get(name) ?? null,
    setItem: (name: string, value: string) => all.set(name, value),
    removeItem: (name: string) => all.delete(name) };
}

beforeEach(() => {
  sockets = [];
  vi.spyOn(console, "warn").mockImplementation(() => {}); // queries without an answer
  vi.stubGlobal("window", { addEventListener() {} });
  vi.stubGlobal("document", { addEventListener() {}, hidden: false, hasFocus: () => false });
  vi.stubGlobal("location", { href: "http://localhost/" });
  vi.stubGlobal("sessionStorage", storage());
  vi.stubGlobal("localStorage", storage());
  vi.stubGlobal("WebSocket", function () {
    sockets.push(new FakeSocket());
    return sockets.at(-1);
  });
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** login opens the newest connection, and answers its login. */
async function login(n: number) {
  await expect.poll(() => sockets.length).toBe(n);
  const socket = sockets.at(-1)!;
  socket.open();
  const [asked] = socket.take(IMLoginReqSchema);
  socket.deliver(IMLoginResSchema, { serverTime: 1, resultCode: 0, resultString: "",
    userInfo: user }, asked!.seq);
  return socket;
}

/** twoTabs returns two tabs of the user, of which the first one has the connection. */
async function twoTabs() {
  const first = new App(config);
  await first.signIn("alice", "demo", "", false);
  await login(1);
  const second = new App(config);
  sessionStorage.setItem("teamtalk.login", JSON.stringify(first.login()));
  await second.resume();
  expect(second.store.state.elsewhere).toBe(true);
  return [first, second] as const;
}

/** sent returns the texts that a page has sent. */
const sent = (socket: FakeSocket) => socket.take(IMMsgDataSchema)
  .map(({ message }) => new TextDecoder().decode((message as IMMsgData).msgData));

test("the user signs out in all tabs", async () => {
  const [first, second] = await twoTabs();
  const out = first.signOut();
  sockets[0]!.drop(); // there is no answer to the logout
  await out;
  await expect.poll(() => second.login()).toBeUndefined();
  await second.takeOver();
  expect(sockets.length).toBe(1);
});

test("a tab that is closed while it sends a failed text again has stored the text", async () => {
  const app = new App(config);
  await app.signIn("alice", "demo", "", false);
  await login(1);
  await expect.poll(() => app.cache).toBeDefined();
  await app.send("u2", "old");
  const [sent] = (await app.cache!.pending())!;
  // The tab is closed after one further change of the database.
  const change = IDBDatabase.prototype.transaction;
  let left = 1;
  vi.spyOn(IDBDatabase.prototype, "transaction").mockImplementation(function (
    this: IDBDatabase, stores, mode) {
    if (stores === "outbox" && mode === "readwrite" && left-- <= 0) throw new Error("closed");
    return change.call(this, stores, mode);
  });
  await app.retry({ ...sent!, created: Date.now() - 24 * 3600_000 });
  const kept = (await app.cache!.pending())!;
  expect(kept.map((p) => p.content)).toEqual([{ kind: "text", text: "old" }]);
  expect(kept[0]!.cmid).not.toBe(sent!.cmid); // the server may have forgotten the old one
  const out = app.signOut();
  sockets[0]!.drop(); // there is no answer to the logout
  await out;
});

test("a tab that takes over sends what the other one could not send, in its order", async () => {
  const [first, second] = await twoTabs();
  vi.spyOn(Date, "now").mockReturnValue(Date.now()); // all parts in the same millisecond
  await first.send("u2", [..."abcdefgh"].map((c) => c.repeat(3000)).join(""));
  vi.mocked(Date.now).mockRestore();
  await second.takeOver();
  const socket = await login(2);
  await expect.poll(() => sent(socket).map((text) => text[0]).join("")).toBe("abcdefgh");
  expect(first.store.state.elsewhere).toBe(true);
  void first.signOut();
});

test("a tab that takes over forgets what the other one has sent", async () => {
  const [first, second] = await twoTabs();
  await second.takeOver();
  const socket = await login(2);
  await second.send("u2", "known to both");
  await first.takeOver();
  await login(3);
  const known = () => first.store.state.pending.u2?.length;
  expect(known()).toBe(1);
  await second.takeOver();
  await login(4);
  // The second tab gets the ack. The first one had the text as well.
  const [p] = second.store.state.pending.u2!;
  await second.cache!.removePending(p!.cmid);
  expect(known()).toBe(1);
  await first.takeOver();
  await expect.poll(known).toBe(0);
  const last = await login(5);
  await first.send("u2", "later");
  await expect.poll(() => sent(last)).toEqual(["later"]);
  expect(socket.ended).toBe(true);
  void first.signOut();
});

test("a user who cancels while the other tabs are asked is not signed in", async () => {
  const app = new App(config);
  const began = app.signIn("alice", "demo", "", false);
  await app.signOut();
  await began;
  expect(sockets).toEqual([]);
  expect(app.login()).toBeUndefined();
});

test("a picture of a user who signs out is not sent by the next one", async () => {
  let answer!: (rsp: unknown) => void;
  vi.stubGlobal("fetch", () => new Promise((done) => (answer = done)));
  vi.stubGlobal("createImageBitmap", async () => ({ width: 1, height: 1, close() {} }));
  const app = new App(config);
  await app.signIn("alice", "demo", "", false);
  await login(1);
  await expect.poll(() => app.cache).toBeDefined();
  const sending = app.sendPicture("u2", new File(["x"], "x.png", { type: "image/png" }));
  await expect.poll(() => answer).toBeDefined();
  const out = app.signOut();
  sockets[0]!.drop();
  await out;
  await app.signIn("bob", "demo", "", false);
  const socket = await login(2);
  await expect.poll(() => app.cache).toBeDefined();
  answer({ status: 200, json: async () => ({ error_code: 0, url: "http://m/g0/000/000/a.png" }) });
  await sending;
  expect(sent(socket)).toEqual([]);
  expect(app.unsent()).toBe(0);
  void app.signOut();
});
