import { expect, test } from "vitest";
import { Tabs } from "../src/net/tabs";

test("the first tab of a user has the connection, until another one takes it", async () => {
  let taken = 0;
  const first = new Tabs(() => taken++, () => {});
  const second = new Tabs(() => {}, () => {});
  expect(await first.claim("Alice")).toBe(true);
  expect(await second.claim("alice")).toBe(false);
  second.take();
  await expect.poll(() => taken).toBe(1);
  expect(await first.claim("alice")).toBe(false);
  second.release();
  expect(await first.claim("alice")).toBe(true);
});

test("tabs of different users do not disturb each other", async () => {
  const [bob, carol] = [new Tabs(() => {}, () => {}), new Tabs(() => {}, () => {})];
  expect(await bob.claim("bob")).toBe(true);
  expect(await carol.claim("carol")).toBe(true);
});

test("of two tabs that ask at once, one has the connection", async () => {
  const tabs = [new Tabs(() => {}, () => {}), new Tabs(() => {}, () => {})];
  const got = await Promise.all(tabs.map((tab) => tab.claim("dora")));
  expect(got.filter(Boolean).length).toBe(1);
});

test("a user signs out in all tabs", async () => {
  const out: string[] = [];
  const tab = (name: string) => new Tabs(() => {}, () => out.push(name));
  const [first, second, other] = [tab("first"), tab("second"), tab("other")];
  await first.claim("Emma");
  await second.claim("emma");
  await other.claim("frank");
  second.signOut();
  await expect.poll(() => out).toEqual(["first"]);
  expect(await second.claim("emma")).toBe(true);
});

test("a second claim hears the answer to its question, and a tab that leaves has nothing", async () => {
  const [first, second] = [new Tabs(() => {}, () => {}), new Tabs(() => {}, () => {})];
  expect(await first.claim("gina")).toBe(true);
  const claims = [second.claim("other"), second.claim("gina")];
  expect(await Promise.all(claims)).toEqual([false, false]);
  first.release();
  const leaving = second.claim("gina");
  second.release();
  expect(await leaving).toBe(false);
  expect(await first.claim("gina")).toBe(true);
});
