import "fake-indexeddb/auto";
import { createMemo, createRoot } from "solid-js";
import { describe, expect, test, vi } from "vitest";
import { MsgType } from "../src/gen/base_pb";
import { TextCipher } from "../src/proto/cipher";
import { Cache } from "../src/state/cache";
import { joins, merge, readContent } from "../src/state/messages";
import { hostOf, picturePath, pictureText, safe, segments } from "../src/state/segments";
import { plainName, Store } from "../src/state/store";
import type { Message, Pending } from "../src/state/types";

const message = (id: number): Message =>
  ({ id, from: 2, time: id, content: { kind: "text", text: `text ${id}` } });
const ids = (list: readonly Message[]) => list.map((m) => m.id).join(" ");
const list = (...ids: number[]) => ids.map(message);

describe("segments", () => {
  test("finds links, and leaves what ends a sentence", () => {
    expect(segments("see https://example.com/a?b=1, or (http://x.org/).")).toEqual([
      { kind: "text", text: "see " },
      { kind: "link", href: "https://example.com/a?b=1", text: "https://example.com/a?b=1" },
      { kind: "text", text: ", or (" },
      { kind: "link", href: "http://x.org/", text: "http://x.org/" },
      { kind: "text", text: ")." },
    ]);
    expect(segments("请看https://example.com/页。好").map((s) => s.kind === "link" && s.text))
      .toContain("https://example.com/");
  });

  test("makes no link of what is not of the web", () => {
    for (const text of ["javascript:alert(1)", "<b>hi</b>", "data:text/html,x", "https://"])
      expect(segments(text)).toEqual([{ kind: "text", text }]);
    expect(safe("https://bank.com@evil.com/")).toBe("");
    expect(safe("https://:bank.com@evil.com/")).toBe("");
  });

  test("finds pictures", () => {
    const url = "http://10.0.0.5:8700/g0/000/001/0123_640x480.jpg";
    expect(segments("a" + pictureText(url) + "b")).toEqual([
      { kind: "text", text: "a" },
      { kind: "picture", url, src: "/msfs/g0/000/001/0123_640x480.jpg", width: 640, height: 480 },
      { kind: "text", text: "b" },
    ]);
    expect(segments("&$#@~^@[{:open")).toEqual([{ kind: "text", text: "&$#@~^@[{:open" }]);
  });

  test("loads pictures from the page's own server only", () => {
    expect(picturePath("http://evil.com/track.gif")).toBe("");
    expect(picturePath("http://h/g0/000/001/../../x")).toBe("");
    expect(hostOf(safe("https://good.com\\@evil.com:8/a_1x1.png"))).toBe("good.com");
    expect(hostOf(safe("https://good.com.evil.com:8/good.com"))).toBe("good.com.evil.com:8");
    expect(picturePath("g0/000/001/a.png")).toBe("");
    expect(picturePath("/g0/000/001/a.png")).toBe("/msfs/g0/000/001/a.png");
  });
});

describe("messages", () => {
  test("merge orders by id and drops duplicates", () => {
    expect(ids(merge(list(1, 5), list(9, 3, 5, 3)))).toBe("1 3 5 9");
    expect(ids(merge([], list(2, 1)))).toBe("1 2");
    expect(ids(merge(list(3, 4), list(1, 2)))).toBe("1 2 3 4");
    expect(ids(merge(list(3, 4), list(2, 1, 2)))).toBe("1 2 3 4");
    const known = list(1, 2);
    expect(merge(known, list(2, 1))).toBe(known);
    expect(ids(merge(known, list(2)))).toBe("1 2");
  });

  test("joins finds a gap", () => {
    expect(joins(list(1, 2, 3), list(3, 4))).toBe(true);
    expect(joins(list(1, 2, 3), list(5, 6))).toBe(false);
    expect(joins([], list(5, 6))).toBe(true);
  });

  test("a sound has its duration first", () => {
    const cipher = new TextCipher("");
    const sound = Uint8Array.of(0, 0, 0, 7, 0x4f, 0x67);
    expect(readContent(MsgType.SINGLE_AUDIO, sound, cipher)).toEqual(
      { kind: "sound", seconds: 7, data: Uint8Array.of(0x4f, 0x67) });
    expect(readContent(MsgType.GROUP_AUDIO, sound.subarray(0, 3), cipher)).toEqual(
      { kind: "sound", seconds: 0 });
  });
});

describe("Cache", () => {
  const pending = (cmid: string, created: number): Pending =>
    ({ cmid, conv: "u2", content: { kind: "text", text: cmid }, created, state: "sending" });

  test("keeps messages by conversation, in the order of their ids", async () => {
    const cache = await Cache.open(1);
    await cache.saveMessages("u2", list(1, 9, 10));
    await cache.saveMessages("g2", list(5));
    await cache.addMessage("u2", message(100));
    expect(ids(await cache.messages("u2"))).toBe("1 9 10 100");
    await cache.saveMessages("u2", list(200));
    expect(ids(await cache.messages("u2"))).toBe("200");
    expect(ids(await cache.messages("g2"))).toBe("5");
    expect((await cache.messages("u2"))[0]).toEqual(message(200));
    cache.close();
  });

  test("keeps the outbox over a reload", async () => {
    const cache = await Cache.open(2);
    await cache.savePending(pending("b", 2));
    await cache.savePending(pending("a", 1));
    await cache.savePending(pending("c", 3));
    await cache.removePending("b");
    cache.close();
    const again = await Cache.open(2);
    expect((await again.pending())!.map((p) => p.cmid)).toEqual(["a", "c"]);
    again.close();
    const other = await Cache.open(3);
    expect(await other.pending()).toEqual([]);
    other.close();
  });

  test("says that a text is not stored, where the browser has no room or no answer", async () => {
    vi.spyOn(console, "warn").mockImplementation(() => {});
    const cache = await Cache.open(2);
    expect(await cache.savePending(pending("a", 1))).toBe(true);
    const put = vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(function (
      this: IDBObjectStore) {
      this.transaction.abort(); // as for a full disk
      return {} as IDBRequest<IDBValidKey>;
    });
    expect(await cache.savePending(pending("b", 2))).toBe(false);
    put.mockRestore();
    const hang = vi.spyOn(IDBDatabase.prototype, "transaction").mockReturnValue(
      { objectStore: () => ({ put() {} }) } as any);
    vi.useFakeTimers();
    const hanging = cache.savePending(pending("c", 3));
    await vi.advanceTimersByTimeAsync(4000);
    expect(await hanging).toBe(false);
    vi.useRealTimers();
    hang.mockRestore();
    expect((await cache.pending())!.map((p) => p.cmid)).not.toContain("b");
    cache.close();
    expect(await cache.pending()).toBeUndefined(); // and not an empty list
    vi.restoreAllMocks();
  });
});

test("a list of all users follows each of them", () => {
  const store = new Store();
  const user = (id: number, nick: string) => ({ id, name: "", pinyin: "", nick, avatar: "",
    depart: 0, sign: "", email: "", tel: "", gone: false });
  createRoot((end) => {
    const names = createMemo(() => store.everyone().map((u) => u.nick).join(" "));
    store.putUsers([user(1, "a"), user(2, "b")]);
    expect(names()).toBe("a b");
    store.putUsers([user(2, "c")]);
    expect(names()).toBe("a c");
    const messages = createMemo(() => ids(store.chat("u2").messages));
    store.setChat("u2", { messages: list(1, 2), synced: true });
    expect(messages()).toBe("1 2");
    store.unsync();
    expect(store.chat("u2")).toMatchObject({ synced: false, solid: 2 });
    store.reset();
    expect(names() + messages()).toBe("");
    end();
  });
});

describe("names", () => {
  test("are shown without characters that hide or reverse them", () => {
    expect(plainName("\u202egnp.ecila\u202c\u200b\n")).toBe("gnp.ecila");
    expect(plainName("\u3164\u2800\u200b")).toBe("");
    expect(plainName("مريم 张伟 👩\u200d💻")).toBe("مريم 张伟 👩\u200d💻");
    const store = new Store();
    store.putGroups([{ id: 4, version: 1, name: " \u2066\u200b", creator: 1, normal: false,
      members: [] }]);
    expect(store.title("g4")).toBe("#4");
    expect(store.nick(9)).toBe("#9");
  });
});
