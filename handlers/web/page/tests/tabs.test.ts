import { expect, test } from "vitest";
import { Tabs } from "../src/net/tabs";

test("the first tab of a user has the connection, until another one takes it", async () => {
  let taken = 0;
  const first = new Tabs(() => taken++);
  const second = new Tabs(() => {});
  expect(await first.claim("Alice")).toBe(true);
  expect(await second.claim("alice")).toBe(false);
  second.take();
  await expect.poll(() => taken).toBe(1);
  expect(await first.claim("alice")).toBe(false);
  second.release();
  expect(await first.claim("alice")).toBe(true);
});

test("tabs of different users do not disturb each other", async () => {
  const [bob, carol] = [new Tabs(() => {}), new Tabs(() => {})];
  expect(await bob.claim("bob")).toBe(true);
  expect(await carol.claim("carol")).toBe(true);
});

test("of two tabs that ask at once, one has the connection", async () => {
  const tabs = [new Tabs(() => {}), new Tabs(() => {})];
  const got = await Promise.all(tabs.map((tab) => tab.claim("dora")));
  expect(got.filter(Boolean).length).toBe(1);
});
