import { describe, expect, it } from "vitest";
import { createUuidV7, formatUuid } from "./ids.ts";
import { type JsonText, textOf } from "./json-cursor.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import type { LogEvent } from "./record.ts";
import type { RuleFault } from "./rule-fault.ts";
import { checkEvent, type EventInput, type FieldNames, type RequestFacts, routingKey } from "./validate.ts";

const NAMES: FieldNames = {
  id: "id",
  event: "event",
  distinctId: "distinct_id",
  source: "source",
  value: "value",
  properties: "properties",
};
const RECEIVED = 1_774_612_800_000_000;
const FACTS: RequestFacts = { receivedUs: RECEIVED, apiKey: "k", ip: "1.2.3.4", userAgent: "ua", checkStored: true };
const INPUT: EventInput = {
  id: "",
  event: "page_view",
  distinctId: "",
  source: "",
  value: undefined,
  time: undefined,
  properties: undefined,
};
const newId = createUuidV7();

function check(change: Partial<EventInput>): LogEvent | RuleFault {
  return checkEvent({ ...INPUT, ...change }, FACTS, NAMES, DEFAULT_LIMITS, newId);
}

function accepted(change: Partial<EventInput>): LogEvent {
  const checked = check(change);
  if ("fault" in checked) throw new Error(`${checked.field} ${checked.message}`);
  return { ...checked, propertiesJson: textOf(checked.propertiesJson as JsonText) };
}

describe("event rules", () => {
  it("complete a bare event with an id, the receive time and the request's facts", () => {
    const event = accepted({});
    expect(event).toMatchObject({
      idFromCaller: false,
      timeUs: RECEIVED,
      receivedUs: RECEIVED,
      originalTime: "",
      propertiesJson: "{}",
      checkStored: true,
      apiKey: "k",
      ip: "1.2.3.4",
      userAgent: "ua",
    });
    expect(formatUuid(event.id)).toMatch(/^.{14}7/);
  });

  it.each([
    ["blank", { event: " \t\u00a0" }, "missing", "event"],
    ["no name", { event: "" }, "missing", "event"],
    ["an id that is no UUID", { id: "x" }, "invalid", "id"],
    ["NaN", { value: Number.NaN }, "invalid", "value"],
    ["-Infinity", { value: Number.NEGATIVE_INFINITY }, "invalid", "value"],
  ] as const)("refuse %s by its field", (_case, change, fault, field) => {
    expect(check(change)).toMatchObject({ fault, field });
  });

  it.each([
    ["event", "event", 200],
    ["distinctId", "distinct_id", 1024],
    ["source", "source", 200],
  ] as const)("bound %s by its UTF-8 bytes", (key, field, bytes) => {
    for (const each of [bytes - 1, bytes]) expect(check({ [key]: "x".repeat(each) })).not.toHaveProperty("fault");
    expect(check({ [key]: "x".repeat(bytes + 1) })).toMatchObject({ fault: "too_large", field });
    expect(check({ [key]: "é".repeat(bytes / 2) })).not.toHaveProperty("fault");
    expect(check({ [key]: `${"é".repeat(bytes / 2)}x` })).toMatchObject({ fault: "too_large", field });
  });

  it("bound the properties by their UTF-8 bytes", () => {
    const sized = (bytes: number) => ({ properties: `{"a":"${"é".repeat((bytes - 8) / 2)}"}` });
    expect(check(sized(DEFAULT_LIMITS.eventBytes))).not.toHaveProperty("fault");
    const fault = check(sized(DEFAULT_LIMITS.eventBytes + 2));
    expect(fault).toMatchObject({ fault: "too_large", field: "properties" });
    expect((fault as RuleFault).message).toContain("900002 bytes");
  });

  it("move a time out of range to the bound and keep what was sent", () => {
    const time = (us: number) => ({ time: { us, text: () => "as sent" } });
    expect(accepted(time(-1))).toMatchObject({ timeUs: 0, originalTime: "as sent" });
    expect(accepted(time(RECEIVED + 1e12))).toMatchObject({ timeUs: RECEIVED + 86_400e6, originalTime: "as sent" });
    expect(accepted(time(5))).toMatchObject({ timeUs: 5, originalTime: "" });
  });

  it("move a time by the skew of the caller's clock, unless that leads out of the bounds", () => {
    const time = (us: number, skewUs: number) => ({ time: { us, skewUs, text: () => "as sent" } });
    expect(accepted(time(5, 10))).toMatchObject({ timeUs: 15, originalTime: "as sent" });
    expect(accepted(time(-5, 10))).toMatchObject({ timeUs: 5, originalTime: "as sent" });
    expect(accepted(time(5, -10))).toMatchObject({ timeUs: 5, originalTime: "" });
    expect(accepted(time(-5, -10))).toMatchObject({ timeUs: 0, originalTime: "as sent" });
    expect(accepted(time(5, 1e17))).toMatchObject({ timeUs: 5, originalTime: "" });
    expect(accepted(time(5, 0))).toMatchObject({ timeUs: 5, originalTime: "" });
  });

  it("take an id as bytes", () => {
    const id = new Uint8Array(16).fill(7);
    expect(accepted({ id })).toMatchObject({ id, idFromCaller: true });
  });

  it("trust an event only when the request says so", () => {
    expect(accepted({}).trusted).toBe(false);
    expect(checkEvent(INPUT, { ...FACTS, trusted: true }, NAMES, DEFAULT_LIMITS, newId)).toMatchObject({
      trusted: true,
    });
  });

  it("refuse a number of a message that JSON has not, and store one of JSON that no double holds", () => {
    const properties = { a: Number.POSITIVE_INFINITY, b: [1, Number.NEGATIVE_INFINITY] };
    expect(check({ properties })).toMatchObject({ fault: "invalid", field: "properties.a" });
    // Text is stored as it came.
    expect(accepted({ properties: '{"a":1e400}' }).propertiesJson).toBe('{"a":1e400}');
  });

  it("lift what routing and sessions need, the $ name before the plain one, blanks and other types skipped", () => {
    const properties = {
      $session_id: " ",
      session_id: "s",
      $window_id: "w",
      window_id: "not this",
      host: 5,
      $current_url: " u ",
      device_id: "plain names do not route",
      $device_id: "d",
    };
    expect(accepted({ properties })).toMatchObject({
      sessionId: "s",
      windowId: "w",
      host: "",
      currentUrl: " u ",
      deviceId: "d",
      elementsChain: "",
    });
  });
});

describe("routing key", () => {
  const properties = { $device_id: "device", $anon_distinct_id: "anon" };

  it.each([
    ["the device", { properties, distinctId: "user" }, "device"],
    ["else the anonymous id", { properties: { $anon_distinct_id: "anon" }, distinctId: "user" }, "anon"],
    ["else the distinct id", { distinctId: "user" }, "user"],
    ["a blank device counts as none", { properties: { $device_id: " " }, distinctId: "user" }, "user"],
    ["an unpaired surrogate as it is stored", { distinctId: "\ud800" }, "\ufffd"],
  ])("is %s", (_case, change, expected) => {
    expect(routingKey(accepted(change)).toString()).toBe(expected);
  });

  it("is the event's id when nobody is named, so that such events spread", () => {
    const event = accepted({ id: "0192F0C1-2345-7ABC-8DEF-0123456789AB" });
    expect(routingKey(event).toString("hex")).toBe("0192f0c123457abc8def0123456789ab");
    expect(event.idFromCaller).toBe(true);
  });
});
