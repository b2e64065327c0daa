import { expect, test, vi } from "vitest";

vi.hoisted(() => {
  vi.stubGlobal("document", { documentElement: {} });
  vi.stubGlobal("navigator", { language: "en-US" });
  vi.stubGlobal("localStorage", { getItem: () => null, setItem() {} });
});

import * as api from "../admin/api";
import { ceiling, hour, join, known, lastOf, line, type History } from "../admin/history";
import { failure, maybe } from "../admin/i18n";
import { depth, inside, names } from "../admin/lists";
import { inLanguage } from "../admin/said";
import { setLanguage } from "../src/ui/language";

const at = (s: number) => new Date(1e12 + s * 1000).toISOString();

test("keeps the samples of an hour, each once", () => {
  let h: History = { times: [], series: {} };
  h = join(h, { step: 10, times: [at(0), at(10)], series: { a: [1, null] } });
  h = join(h, { step: 10, times: [at(10), at(20)], series: { a: [9, 3], b: [4, 5] } });
  expect(h.times.map((t) => (t - 1e12) / 1000)).toEqual([0, 10, 20]);
  expect(h.series).toEqual({ a: [1, null, 3], b: [null, null, 5] });
  expect(join(h, { step: 10, times: [at(20)], series: { a: [7] } })).toBe(h);
  const back = join(h, { step: 10, times: [at(-60), at(-50)], series: { a: [5, 6] } });
  expect([back.times.length, back.series]).toEqual([2, { a: [5, 6] }]); // the clock was set back
  h = join(h, { step: 10, times: [at(3605)], series: { a: [8], b: [6] } });
  expect(h.times.length).toBe(3); // that of second 0 is older than an hour
  expect(h.series.a).toEqual([null, 3, 8]);
});

test("knows the newest value, and whether there is one", () => {
  expect([lastOf([1, 2, null]), lastOf([null]), lastOf(undefined)]).toEqual([2, null, null]);
  expect([known([null, 0]), known([null]), known(undefined)]).toEqual([true, false, false]);
});

test("ends an axis at a round number", () => {
  for (const [value, want] of [[0, 1], [NaN, 1], [1, 1], [1.1, 2], [3, 5], [7, 10], [0.003, 0.005],
    [0.3, 0.5], [1234, 2000], [1e6, 1e6]] as const) expect(ceiling(value)).toBeCloseTo(want, 9);
});

test("draws values as a line with gaps", () => {
  const times = [0, hour / 2, hour * 0.75, hour];
  const path = line(times, [0, 10, null, 20], hour, 10, 100, 50);
  expect(path).toBe("M0.0 50.0h1L50.0 0.0M100.0 0.0h1");
});

test("finds the departments inside of others, in a circle too", () => {
  const one = (id: number, parent: number) =>
    ({ id, parent, name: "", path: "", priority: 0, users: 0 });
  const list = [one(1, 0), one(2, 1), one(3, 2), one(4, 5), one(5, 4), one(6, 99)];
  expect(list.map((d) => depth(list, d.id))).toEqual([0, 1, 2, 1, 1, 1]);
  expect([inside(list, 3, 1), inside(list, 1, 1), inside(list, 1, 3), inside(list, 4, 1)])
    .toEqual([true, true, false, false]);
});

test("reads a list of names", () => {
  expect(names(" alice, bob\n爱丽丝，7、x ")).toEqual(["alice", "bob", "爱丽丝", "7", "x"]);
});

/** server answers the next call. */
function server(status: number, answer: unknown) {
  const call = vi.fn(async (_path: string, _init: RequestInit) =>
    new Response(JSON.stringify(answer), { status }));
  vi.stubGlobal("fetch", call);
  return call;
}

test("exchanges a token for a session, and proves calls with it", async () => {
  server(200, { name: "ops", role: "read-only", csrf: "proof", messages: false });
  await api.signIn("secret");
  expect(api.session()?.name).toBe("ops");
  expect(api.mayChange()).toBe(false);
  const call = server(200, { users: [] });
  await api.get("/v1/users", { search: "a&b", after: 0, status: "" });
  expect(call.mock.calls[0]![0]).toBe("/v1/users?search=a%26b");
  const headers = call.mock.calls[0]![1].headers as Record<string, string>;
  expect(headers["X-Csrf-Token"]).toBe("proof");
  expect(JSON.stringify(call.mock.calls)).not.toContain("secret");
});

test("tells why a call failed, and ends a session that has ended", async () => {
  server(200, { name: "ops", role: "admin", csrf: "proof" });
  await api.signIn("secret");
  server(400, { error: { code: "invalid", message: "no", problems: ["line 2: phone"] } });
  const bad = await api.get("/v1/users").catch((err) => err) as api.Failure;
  expect([failure(bad), bad.problems]).toEqual(["no", ["line 2: phone"]]);
  expect(api.session()?.name).toBe("ops");
  server(401, { error: { code: "no_session", message: "the session has ended" } });
  const over = await api.get("/v1/users").catch((err) => err);
  expect([failure(over), api.session()]).toEqual(["The session has ended.", null]);
  expect(api.ended()).toBe(true);
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("refused")));
  const away = await api.get("/v1/users").catch((err) => err);
  expect(failure(away)).toBe("The server does not answer.");
  expect([maybe("st_", "ok"), maybe("st_", "status 9")]).toEqual(["active", "status 9"]);
});

test("says in Chinese what the server says in English", () => {
  const said = (message: string, code = "invalid") => failure(new api.Failure(400, code, message));
  expect(said('no user has the name or id "x"; see teamtalk user list', "not_found"))
    .toBe('no user has the name or id "x"; see teamtalk user list');
  setLanguage("zh");
  expect(said('no user has the name or id "x"; see teamtalk user list', "not_found"))
    .toBe('没有名称或编号为 "x" 的用户');
  expect(said('no user has the name or id "a"; see teamtalk user list\nnothing was changed'))
    .toBe('没有名称或编号为 "a" 的用户\n没有做任何更改');
  expect(said('2 groups have the name "g"; give the id of one: 4, 5'))
    .toBe('有 2 个群组名为 "g"，请指定编号：4, 5');
  expect(inLanguage("line 3: the name \"a$1\" is in line 2 already"))
    .toBe("第 3 行：名称 \"a$1\" 已出现在第 2 行");
  expect(said("the phone is too long")).toBe("输入有误：the phone is too long");
  expect(failure(new api.Failure(500, "internal", ""))).toBe("服务器出错");
  setLanguage("en");
});

test("stays signed in when the server cannot be told", async () => {
  server(200, { name: "ops", role: "admin", csrf: "proof" });
  await api.signIn("secret");
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("refused")));
  await expect(api.signOut()).rejects.toThrow();
  expect(api.session()?.name).toBe("ops");
  server(200, {});
  await api.signOut();
  expect(api.session()).toBeNull();
});
