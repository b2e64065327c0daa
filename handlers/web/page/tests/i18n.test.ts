import { expect, test, vi } from "vitest";

test("says why a login was refused in the language of the page", async () => {
  vi.stubGlobal("document", { documentElement: {} });
  vi.stubGlobal("navigator", { language: "en-US", languages: ["en-US"] });
  vi.stubGlobal("localStorage", { getItem: () => null, setItem() {} });
  const { refusal, setLanguage, t } = await import("../src/ui/i18n");
  expect(refusal("用户名/密码错误")).toBe(t("refused"));
  expect(refusal("用户名/密码错误次数太多")).toMatch(/^Too many/);
  expect(refusal("")).toBe(t("refused"));
  expect(refusal("the account is disabled")).toBe("the account is disabled");
  expect(refusal("constructor")).toBe("constructor");
  setLanguage("zh");
  expect(refusal("用户名/密码错误")).toBe("用户名或密码错误。");
  vi.unstubAllGlobals();
});
