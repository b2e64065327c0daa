import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Outbox, repeatWindow } from "../src/state/outbox";
import type { ConvKey, Pending } from "../src/state/types";

let sent: { text: string; seq: number }[];
let stored: string[];
let failed: string[];
let seq: number;
let outbox: Outbox;

beforeEach(() => {
  vi.useFakeTimers();
  sent = [];
  stored = [];
  failed = [];
  seq = 0;
  outbox = new Outbox({
    transmit: (p, before) => {
      const n = before || ++seq;
      sent.push({ text: p.cmid, seq: n });
      return n;
    },
    stored: (p, id) => stored.push(`${p.cmid}=${id}`),
    failed: (p, why) => failed.push(`${p.cmid}: ${why}`),
  });
});

afterEach(() => {
  vi.useRealTimers();
});

const text = (text: string, conv: ConvKey = "u2"): Pending =>
  ({ cmid: text, conv, content: { kind: "text", text }, created: Date.now(), state: "sending" });
const texts = () => sent.splice(0).map((s) => s.text).join("");

test("sends after the login, in order, and reports what is stored", () => {
  outbox.add(text("a"));
  outbox.add(text("b"));
  expect(texts()).toBe("");
  outbox.online();
  expect(texts()).toBe("ab");
  outbox.acked("u2", 1, 10, 0);
  outbox.acked("u2", 2, 11, 0);
  expect(stored).toEqual(["a=10", "b=11"]);
  vi.advanceTimersByTime(60_000);
  expect(texts()).toBe("");
});

test("sends again on a new connection what has no ack", () => {
  outbox.online();
  outbox.add(text("a"));
  outbox.add(text("b"));
  outbox.acked("u2", 1, 10, 0);
  outbox.offline();
  outbox.add(text("c"));
  expect(texts()).toBe("ab");
  outbox.online();
  expect(texts()).toBe("bc");
});

test("without an ack sends the text and all later ones again, with the same seq", () => {
  outbox.online();
  outbox.add(text("a"));
  outbox.add(text("b"));
  outbox.add(text("x", "u3"));
  outbox.acked("u3", 3, 1, 0);
  vi.advanceTimersByTime(10_000);
  expect(sent.map((s) => s.text + s.seq).join(" ")).toBe("a1 b2 x3 a1 b2");
});

test("gives a conversation up after several sends without an ack", () => {
  outbox.online();
  outbox.add(text("a"));
  outbox.add(text("b"));
  vi.advanceTimersByTime(60_000);
  expect(texts()).toBe("abababab");
  expect(failed).toEqual(["a: unanswered", "b: unanswered"]);
});

test("after a refusal sends the text and all later ones again", () => {
  outbox.online();
  outbox.add(text("a"));
  outbox.add(text("b"));
  outbox.acked("u2", 1, 0, 1);
  outbox.acked("u2", 2, 0, 1); // the later one is refused as well
  expect(texts()).toBe("ab");
  outbox.add(text("c"));
  expect(texts()).toBe("");
  vi.advanceTimersByTime(1000);
  expect(texts()).toBe("abc");
});

test("gives a text up that can never be stored, and no other", () => {
  outbox.online();
  outbox.add(text("a"));
  outbox.add(text("b"));
  outbox.acked("u2", 1, 0, 2);
  outbox.acked("u2", 2, 10, 0);
  expect(failed).toEqual(["a: rejected"]);
  expect(stored).toEqual(["b=10"]);
});

test("sends no faster than servers take texts", () => {
  outbox.online();
  for (let i = 0; i < 100; i++) outbox.add(text("a"));
  expect(texts().length).toBe(15);
  vi.advanceTimersByTime(1000);
  expect(texts().length).toBeLessThanOrEqual(16);
  for (let i = 1; i <= 100; i++) {
    outbox.acked("u2", i, i, 0);
    vi.advanceTimersByTime(100);
  }
  expect(stored.length).toBe(100);
});

test("fails what waited for so long that the server may store it twice", () => {
  outbox.add(text("a"));
  vi.advanceTimersByTime(repeatWindow);
  outbox.add(text("b"));
  vi.advanceTimersByTime(1);
  outbox.online();
  expect(texts()).toBe("b");
  expect(failed).toEqual(["a: old"]);
});

test("a clock that is set back does not hold texts up", () => {
  outbox.online();
  outbox.add(text("a"));
  vi.setSystemTime(Date.now() - 3600_000);
  outbox.add(text("b"));
  expect(texts()).toBe("ab");
  vi.advanceTimersByTime(10_100); // without an ack both are sent again
  expect(texts()).toBe("ab");
});

test("forgets a text that another tab has sent", () => {
  outbox.add(text("a"));
  outbox.add(text("b"));
  outbox.drop(text("a"));
  outbox.drop(text("c", "u3"));
  outbox.online();
  expect(texts()).toBe("b");
});
