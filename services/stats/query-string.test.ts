import { describe, expect, it } from "vitest";
import { cleanPath, parseBackfill, parseInfluxDuration } from "./query-string.ts";

describe("durations", () => {
  it.each([
    ["0s", 0],
    ["1500u", 1],
    ["2500µ", 2],
    ["15ms", 15],
    ["90s", 90_000],
    ["3m", 180_000],
    ["24h", 86_400_000],
    ["7d", 604_800_000],
    ["2w", 1_209_600_000],
    ["15250w", 9_223_200_000_000],
  ])("%s is %d ms", (text, ms) => expect(parseInfluxDuration(text)).toBe(ms));

  it.each([
    "",
    "7",
    "d",
    "-1d",
    "1.5h",
    "9e99d",
    "15251w",
    "99999999999999999999999d",
    "1d; DROP",
    "1 d",
    "1D",
    "1y",
    "1d\n",
  ])("%j is not a duration", (text) => expect(parseInfluxDuration(text)).toBeUndefined());
});

describe("backfill", () => {
  it.each([
    [null, undefined],
    ["", undefined],
    ["0", 0],
    ["-1.5", -1.5],
    [".5", 0.5],
    ["5.", 5],
    ["1e3", 1000],
    ["zero", 0],
    ["0x10", 0],
    ["1,5", 0],
    ["NaN", "not finite"],
    ["-Inf", "not finite"],
    ["+infinity", "not finite"],
    ["1e999", "not finite"],
  ])("%j is %j", (text, value) => expect(parseBackfill(text)).toBe(value));
});

describe("paths", () => {
  it.each([
    ["/keys", "/keys"],
    ["/", "/"],
    ["//", "/"],
    ["//evil.example", "/evil.example"],
    ["/a//b/", "/a/b/"],
    ["/a/./b/../c", "/a/c"],
    ["/../..", "/"],
    ["/a/..", "/"],
    ["*", "/*"],
  ])("%s is cleaned to %s", (path, clean) => expect(cleanPath(path)).toBe(clean));
});
