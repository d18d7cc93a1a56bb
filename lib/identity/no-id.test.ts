import { describe, expect, it } from "vitest";
import { isNoId as isNoIdInBrowsers } from "../../sdk/browser/src/no-id.ts";
import { isNoId, NO_IDS } from "./no-id.ts";

describe.each([
  ["the server", isNoId],
  ["the browser SDK", isNoIdInBrowsers],
])("a text that is no id, for %s", (_where, check) => {
  it.each([...NO_IDS])("%s, in any case, quotes and blanks", (word) => {
    for (const text of [word, word.toUpperCase(), ` ${word}\t`, `"${word}"`, `'${word}'`, ` " ${word} " `]) {
      expect([text, check(text)]).toEqual([text, true]);
    }
  });

  it.each([" ", "\t\n", '""', "''", '" "'])("%j", (text) => {
    expect(check(text)).toBe(true);
  });

  it.each([
    "u",
    "00",
    "1",
    "10",
    "guest1",
    "true@example.com",
    "nullable",
    "0x",
    "id-1",
    "'",
    "a@b.c",
    "匿名",
    "n".repeat(1000),
  ])("not %s", (text) => {
    expect(check(text)).toBe(false);
  });

  it.each([Number.NaN, {}, 0, null, undefined, true, []])("what String makes of %j", (value) => {
    expect(check(String(value)) || String(value) === "").toBe(true);
  });
});
