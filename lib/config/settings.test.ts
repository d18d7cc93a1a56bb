import { describe, expect, it } from "vitest";
import {
  bytes,
  count,
  csv,
  duration,
  flag,
  httpUrl,
  identifier,
  oneOf,
  port,
  type Setting,
  secret,
  text,
} from "./settings.ts";

function read<T>(setting: Setting<T>, raw: unknown): T | string {
  const result = setting.safeParse(raw);
  return result.success ? result.data : `fault: ${result.error.issues[0]?.message}`;
}

describe("duration", () => {
  it.each([
    ["500ms", 500],
    ["1s", 1_000],
    ["5m", 300_000],
    ["8h", 28_800_000],
    ["2d", 172_800_000],
    ["1w", 604_800_000],
    ["1m30s", 90_000],
    ["1.5s", 1_500],
    ["0", 0],
    [0, 0],
  ])("reads %s", (raw, expected) => expect(read(duration("1s"), raw)).toBe(expected));

  it.each(["", "s", "1x", "-1s", "1 s", "1s2", "s1", true])("refuses %s", (raw) =>
    expect(read(duration("1s"), raw)).toMatch(/^fault: expected a duration/),
  );

  it("names the units for a bare number, which is the default unit where one is declared", () => {
    expect(read(duration("1s"), "60")).toMatch(/^fault: needs a unit .*: 60s for seconds, 60ms/);
    expect(read(duration("1s"), 60)).toMatch(/^fault: needs a unit/);
    expect(read(duration("60", { bareUnit: "s" }), "60")).toBe(60_000);
    expect(read(duration("60", { bareUnit: "s" }), undefined)).toBe(60_000);
    expect(read(duration("1", { bareUnit: "w" }), 2)).toBe(1_209_600_000);
  });

  it("holds its bounds", () => {
    const bounded = duration("1s", { min: 1_000, max: 60_000 });
    expect(read(bounded, "999ms")).toMatch(/at least 1s, at most 1m/);
    expect(read(bounded, "1s")).toBe(1_000);
    expect(read(bounded, "60s")).toBe(60_000);
    expect(read(bounded, "60001ms")).toMatch(/^fault/);
  });

  it("is undefined when unset without a default", () => expect(read(duration(), undefined)).toBeUndefined());
});

describe("bytes", () => {
  it.each([
    ["20971520", 20_971_520],
    [1024, 1_024],
    ["8MB", 8_000_000],
    ["8MiB", 8_388_608],
    ["1.5 kb", 1_500],
    ["2GiB", 2_147_483_648],
  ])("reads %s", (raw, expected) => expect(read(bytes("8MB"), raw)).toBe(expected));

  it.each(["", "8 quarts", "8ib", "-1", "0", "1.5", "1e9"])("refuses %s", (raw) =>
    expect(read(bytes("8MB"), raw)).toMatch(/^fault: expected a size/),
  );
});

it.each([
  ["true", true],
  ["1", true],
  ["Yes", true],
  [true, true],
  ["false", false],
  ["0", false],
  ["no", false],
  [0, false],
  ["maybe", "fault: expected true or false"],
  ["", "fault: expected true or false"],
])("flag reads %s", (raw, expected) => expect(read(flag(false), raw)).toBe(expected));

it.each([
  ["0", 0],
  ["65535", 65_535],
  ["65536", "fault: expected a port number, 0 to 65535"],
  ["-1", "fault: expected a port number, 0 to 65535"],
  ["80.5", "fault: expected a port number, 0 to 65535"],
])("port reads %s", (raw, expected) => expect(read(port(8080), raw)).toBe(expected));

it.each([
  ["1", 1],
  [3, 3],
  ["0", "fault: expected a whole number, 1 to 3"],
  ["4", "fault: expected a whole number, 1 to 3"],
  [1.5, "fault: expected a whole number, 1 to 3"],
  ["1e0", "fault: expected a whole number, 1 to 3"],
])("count reads %s", (raw, expected) => expect(read(count(2, { min: 1, max: 3 }), raw)).toBe(expected));

it("csv reads text and lists and drops blanks", () => {
  expect(read(csv(), " a, ,b,")).toEqual(["a", "b"]);
  expect(read(csv(), ["a", " b "])).toEqual(["a", "b"]);
  expect(read(csv(), [1])).toBe("fault: expected a comma-separated list");
  expect(read(csv(["x"]), undefined)).toEqual(["x"]);
});

it("text and secret take no YAML numbers, since 0123 would become another password", () => {
  expect(read(text("a"), 123)).toMatch(/put it in quotes/);
  expect(read(secret(), 123)).toMatch(/put it in quotes/);
  expect(read(text("a"), "  ")).toBe("fault: expected text that is not blank");
  expect(read(secret("x"), "")).toBe("");
  expect(read(secret(), 'as is, "so"')).toBe('as is, "so"');
});

it.each([
  ["key\n", /line break/],
  ["ke\r\ny", /line break/],
  ["k\u0000ey", /control character/],
  ["k\u007fey", /control character/],
  [" key", /blank/],
  ["key\u00a0", /blank/],
  ['"key"', /quotation mark/],
  ["'key'", /quotation mark/],
])("a secret %j, which no caller could match, is refused without being shown", (value, message) => {
  expect(read(secret(), value)).toMatch(message);
  expect(read(secret(), value)).not.toContain("key");
});

it.each([
  ["http://db:8123/", "http://db:8123"],
  ["https://db/path/", "https://db/path"],
  ["db:8123", "fault: expected an address that begins with http:// or https://"],
  ["ftp://db", "fault: expected an address that begins with http:// or https://"],
])("httpUrl reads %s", (raw, expected) => expect(read(httpUrl("http://a"), raw)).toBe(expected));

it("oneOf takes its words in any case", () => {
  expect(read(oneOf(["info", "warn"], "info"), "WARN")).toBe("warn");
  expect(read(oneOf(["info", "warn"], "info"), "loud")).toBe("fault: expected one of info, warn");
});

it.each(["a b", "1a", "a-b", "a;drop", "", "x".repeat(64)])("identifier refuses %j", (raw) =>
  expect(read(identifier("millrace"), raw)).toMatch(/^fault/),
);
it("identifier takes plain names", () => expect(read(identifier("millrace"), "stats_2")).toBe("stats_2"));

it.each([["a,b\nc"], ["a,'b'"], ["a,b\u0000"]])("a list of secrets %j has one that no caller could match", (value) => {
  expect(read(csv([], { secret: true }), value)).toMatch(/^fault: /);
});

it("an address may be one without a path", () => {
  const setting = httpUrl("http://db:8123", { pathFault: "expected no path" });
  expect(read(setting, "http://db:8123/")).toBe("http://db:8123");
  expect(read(setting, "http://db:8123/other")).toBe("fault: expected no path");
});
