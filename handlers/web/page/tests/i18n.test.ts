import { expect, test, vi } from "vitest";
import { NoAnswer } from "../src/net/connection";
import { Fault, faultOf, faultOfFile, faultOfStatus } from "../src/net/fault";
import { Refused } from "../src/net/http";

test("says why a login was refused in the language of the page", async () => {
  vi.stubGlobal("document", { documentElement: {} });
  vi.stubGlobal("navigator", { language: "en-US", languages: ["en-US"] });
  vi.stubGlobal("localStorage", { getItem: () => null, setItem() {} });
  const { notRegistered, reason, refusal, setLanguage, t, whyBusy } =
    await import("../src/ui/i18n");
  expect(refusal("用户名/密码错误")).toBe(t("refused"));
  expect(refusal("用户名/密码错误次数太多")).toMatch(/^Too many/);
  expect(refusal("")).toBe(t("refused"));
  expect(refusal("the account is disabled")).toBe("the account is disabled");
  expect(refusal("constructor")).toBe("constructor");
  setLanguage("zh");
  expect(refusal("用户名/密码错误")).toBe("用户名或密码错误。");
  expect(refusal("already logged in on another device")).toBe(t("loginElsewhere"));

  // What servers say in English is a detail in Chinese, and the other way round.
  expect(reason(faultOf(3, "the transfer was cancelled")))
    .toBe("传输已结束或不属于您（the transfer was cancelled）");
  expect(reason(faultOf(1, "file is too large"))).toBe("文件过大");
  expect(reason(faultOfStatus(502, ""))).toBe("服务器出错，请稍后再试（HTTP 502）");
  expect(reason(faultOf(9, "服务器磁盘空间不足"))).toBe("服务器存储空间已满");
  expect(reason(faultOfFile(101))).toMatch(/^您发送的文件/);
  expect(reason(faultOfFile(2))).toBe("服务器出错，请稍后再试（IMFileRsp 2）");
  expect(reason(new Fault("offline"))).toBe("未连接");
  expect(reason(new NoAnswer("IMFileReq: no answer"))).toBe("连接已断开");
  expect(reason(new Error("QuotaExceededError"))).toBe("QuotaExceededError");
  expect(notRegistered(new Refused("user_name is taken", "user_name", 3)))
    .toBe("该用户名已被使用或保留。");
  expect(notRegistered(new Refused("服务端内部错误", "", 9)))
    .toBe("账号未创建：服务器出错，请稍后再试");
  expect(whyBusy("服务端异常")).toBe("服务暂时不可用。");
  setLanguage("en");
  expect(reason(faultOfFile(100))).toBe("the server has no more space");
  expect(reason(faultOf(9, "服务器磁盘空间不足"))).toBe("the server has no more space");
  expect(reason(faultOf(9, "上传过于频繁，请稍后再试"))).toBe(t("faultOften"));
  expect(whyBusy("服务器繁忙，请稍后再试")).toMatch(/^The server says: the server is busy/);
  vi.unstubAllGlobals();
});

test("works where the browser keeps nothing", async () => {
  vi.resetModules();
  vi.stubGlobal("document", { documentElement: { dataset: {} } });
  vi.stubGlobal("navigator", { language: "zh-CN" });
  const forbids = () => {
    throw new Error("SecurityError");
  };
  vi.stubGlobal("localStorage", { getItem: forbids, setItem: forbids });
  const { language, setLanguage } = await import("../src/ui/language");
  const { nextTheme, theme } = await import("../src/ui/theme");
  expect(language()).toBe("zh");
  setLanguage("en");
  nextTheme();
  expect([language(), theme()]).toEqual(["en", "light"]);
  vi.unstubAllGlobals();
});
