import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "#lib/events/limits.ts";
import { createJsonReading } from "../json-body.ts";
import { type MessageType, readMessage } from "./segment-message.ts";

function read(message: object | string, type?: MessageType, isPlain = false) {
  const json = createJsonReading(DEFAULT_LIMITS, isPlain);
  json.cursor.open(Buffer.from(typeof message === "string" ? message : JSON.stringify(message)));
  const { message: found, writeKey } = readMessage(json, type);
  json.cursor.close();
  if ("fault" in found) return found;
  const checked = json.properties.check(found.properties, "properties", DEFAULT_LIMITS);
  if ("fault" in checked) return checked;
  const text = checked.text();
  return { ...found, text, properties: JSON.parse(text) as object, writeKey };
}

describe.each([
  ["the scanner", false],
  ["JSON.parse", true],
])("by %s", (_name, isPlain) => {
  it.each([
    [
      "track",
      { type: "track", event: "Paid", userId: "u", properties: { a: 1 } },
      { event: "Paid", distinctId: "u", properties: { a: 1 } },
    ],
    [
      "track of somebody without a name",
      { type: "track", event: "Paid", userId: null, anonymousId: "a" },
      { event: "Paid", distinctId: "a", properties: {} },
    ],
    [
      "track with both ids",
      { type: "track", event: "Paid", userId: "u", anonymousId: "a" },
      { event: "Paid", distinctId: "u", properties: { $device_id: "a" } },
    ],
    [
      "track within a group",
      { type: "track", event: "Paid", userId: 7, groupId: "acme" },
      { event: "Paid", distinctId: "7", properties: { $groups: { group: "acme" } } },
    ],
    [
      "page",
      { type: "page", userId: "u", name: "Home", category: "Docs", properties: { url: "/" } },
      { event: "$pageview", distinctId: "u", properties: { url: "/", name: "Home", category: "Docs" } },
    ],
    [
      "identify with traits, and more of them among the properties",
      { type: "identify", userId: "u", traits: { a: 1, b: 1 }, properties: { $set: { b: 2, c: 2 } } },
      { event: "$identify", distinctId: "u", properties: { $set: { a: 1, b: 1, c: 2 } } },
    ],
    [
      "screen",
      { type: "screen", userId: "u", name: "Home" },
      { event: "$screen", distinctId: "u", properties: { $screen_name: "Home" } },
    ],
    [
      "identify",
      { type: "identify", userId: "u", anonymousId: "a", traits: { plan: "pro" } },
      {
        event: "$identify",
        distinctId: "u",
        properties: { $set: { plan: "pro" }, $anon_distinct_id: "a", $device_id: "a" },
      },
    ],
    [
      "identify as RudderStack has it",
      { type: "identify", userId: "u", context: { traits: { plan: "pro" } } },
      { event: "$identify", properties: { $set: { plan: "pro" }, context: { traits: { plan: "pro" } } } },
    ],
    [
      "identify of somebody without a name",
      { type: "identify", anonymousId: "a", traits: { plan: "pro" } },
      { event: "$set", distinctId: "a", properties: { $set: { plan: "pro" } } },
    ],
    [
      "group",
      { type: "group", userId: "u", groupId: "acme", traits: { size: 3 } },
      {
        event: "$groupidentify",
        distinctId: "u",
        properties: { $group_type: "group", $group_key: "acme", $groups: { group: "acme" }, $group_set: { size: 3 } },
      },
    ],
    [
      "alias",
      { type: "alias", userId: "u", previousId: "a" },
      { event: "$create_alias", distinctId: "u", properties: { alias: "a" } },
    ],
  ])("%s", (_case, message, expected) => {
    const found = read(message, undefined, isPlain);
    expect(found).toMatchObject(expected);
    if (!("fault" in found)) expect(found.properties).toEqual(expected.properties);
  });

  it("keeps the context, and reads it for our own properties, of which the caller's come first", () => {
    const context = {
      library: { name: "analytics.js", version: "1.2" },
      page: { url: "https://me@app.example:8080/a?b#c", path: "/a", title: "" },
      campaign: { name: "spring", source: "ad" },
      screen: { width: 10, height: null },
      os: "linux",
      ip: ["::1"],
      sessionId: 1_700_000_000_123,
      groupId: "acme",
      more: { x: [1.0] },
    };
    const properties = { $current_url: "mine", context: 5 };
    const message = { type: "track", event: "e", userId: "u", messageId: "m", context };
    const lifted = {
      ...{ $lib: "analytics.js", $lib_version: "1.2", $pathname: "/a", $host: "app.example:8080" },
      ...{ utm_campaign: "spring", utm_source: "ad", $screen_width: 10, $session_id: "1700000000123" },
      ...{ $groups: { group: "acme" }, messageId: "m" },
    };
    expect(read(message, undefined, isPlain)).toMatchObject({
      properties: { ...lifted, context, $current_url: context.page.url },
    });
    const own = read({ ...message, properties }, undefined, isPlain);
    expect("fault" in own ? own : own.properties).toEqual({ ...lifted, ...properties });
  });

  it("lets the path say the type, first", () => {
    expect(read({ event: "e", userId: "u" }, "track", isPlain)).toMatchObject({ event: "e" });
    expect(read({ type: "page", event: "e", userId: "u" }, "track", isPlain)).toMatchObject({ event: "e" });
  });

  it("has the key and the clocks", () => {
    const times = { originalTimestamp: "t1", timestamp: "t2", sentAt: "t3" };
    expect(read({ type: "track", event: "e", userId: "u", writeKey: "k", ...times }, undefined, isPlain)).toMatchObject(
      {
        ...{ timestamp: "t2", sentAt: "t3", isFinal: true, writeKey: "k" },
      },
    );
    expect(read({ type: "track", event: "e", userId: "u", timestamp: "t2" }, undefined, isPlain)).toMatchObject({
      ...{ timestamp: "t2", sentAt: "", isFinal: false },
    });
  });

  it.each([
    ["a number", "5", { field: "", message: "must be an object, not a number" }],
    ["no type", { userId: "u" }, { fault: "missing", field: "type" }],
    ["an unknown type", { type: "constructor", userId: "u" }, { fault: "invalid", field: "type" }],
    [
      "a type of another kind",
      { type: {}, userId: "u" },
      { field: "type", message: "must be a string, not an object" },
    ],
    ["no id", { type: "track", event: "e", userId: " " }, { fault: "missing", field: "userId" }],
    ["no event", { type: "track", userId: "u", event: null }, { fault: "missing", field: "event" }],
    ["no group", { type: "group", userId: "u" }, { fault: "missing", field: "groupId" }],
    ["no previous id", { type: "alias", userId: "u" }, { fault: "missing", field: "previousId" }],
    ["an id that is a list", { type: "track", event: "e", userId: ["u"] }, { field: "userId" }],
    ["traits that are a list", { type: "identify", userId: "u", traits: [] }, { field: "traits" }],
  ])("%s is a fault of that message", (_case, message, expected) => {
    expect(read(message, undefined, isPlain)).toMatchObject(expected);
  });
});

it("keeps the text of properties, traits and context", () => {
  const own = '{ "n":12345678901234567890.10, "e":"\\u00e9" }';
  const message = `{"type":"identify","userId":"u","traits":${own},"context":{"x": 1.0}}`;
  expect(read(message)).toMatchObject({ text: `{"$set":${own},"context":{"x": 1.0}}` });
});

it("finds a key that is there twice", () => {
  const message = '{"type":"track","event":"e","userId":"u","context":{"a":1,"a":2}}';
  expect(read(message)).toMatchObject({ fault: "invalid", field: "context.a" });
});
