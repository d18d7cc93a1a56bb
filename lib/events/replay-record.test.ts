import { describe, expect, it } from "vitest";
import { formatUuid } from "./ids.ts";
import { createRecordEncoder, decodeRecord, type LogEvent } from "./record.ts";
import {
  type DeadRecord,
  makeReplay,
  originBytes,
  originOf,
  type ReplayChanges,
  type ReplayRecord,
} from "./replay-record.ts";

const encode = createRecordEncoder();
const EVENT: LogEvent = {
  ...{ id: Buffer.alloc(16, 7), idFromCaller: true, event: "e", distinctId: "d", source: "s", value: 1 },
  ...{ timeUs: 1e15, receivedUs: 1e15, propertiesJson: '{"a":1}', checkStored: false, originalTime: "" },
  ...{ apiKey: "k", ip: "1.2.3.4", userAgent: "u", sessionId: "", windowId: "", elementsChain: "" },
  ...{ currentUrl: "", host: "", anonDistinctId: "", deviceId: "", trusted: true },
};
const NOTHING: ReplayChanges = { property: new Map() };

function dead(fields: Partial<LogEvent> = {}, place: Partial<DeadRecord> = {}): DeadRecord {
  const value = new Uint8Array(encode({ ...EVENT, ...fields }));
  const position = { epoch: "ep", topic: "millrace.events", partition: 2, offset: 9, appendTimeMs: 1.7e12 };
  return { ...position, key: Buffer.from("d"), value, ...place };
}

function replayed(letter: DeadRecord, changes: Partial<ReplayChanges> = {}) {
  const made = makeReplay(letter, { ...NOTHING, ...changes });
  if ("fault" in made) throw new Error(`${made.field}: ${made.message}`);
  return { ...made, record: decodeRecord(made.value) };
}

const faultOf = (letter: DeadRecord, changes: Partial<ReplayChanges> = {}) => {
  const made = makeReplay(letter, { ...NOTHING, ...changes });
  return "fault" in made ? `${made.field}: ${made.message}` : undefined;
};

describe("a replayed record", () => {
  it("is the letter's own but for the flag and the origin", () => {
    const letter = dead({ sessionId: "lifted by its dialect", originalTime: "then" });
    const { $unknown, ...before } = decodeRecord(letter.value);
    const { record } = replayed(letter);
    expect({ ...record, origin: undefined }).toEqual({ ...before, checkStored: true, origin: undefined });
    expect(originOf(record)).toEqual({ epoch: "ep", topic: "millrace.events", partition: 2, offset: 9 });
  });

  it("of a replay has the origin of the first", () => {
    const first = replayed(dead());
    const second = replayed(dead({}, { value: first.value, partition: 5, offset: 77 }), { event: "f" });
    expect(originOf(second.record)).toMatchObject({ partition: 2, offset: 9 });
    const origin = originBytes({ epoch: "ep", topic: "millrace.events", partition: 2, offset: 9 });
    expect(Buffer.from(second.value).includes(Buffer.from(origin))).toBe(true);
  });

  it("keeps what a later version wrote into it", () => {
    // Field 90, a string.
    const later = Buffer.from([0xd2, 0x05, 3, 0x6e, 0x65, 0x77]);
    const { value } = replayed(dead({}, { value: Buffer.concat([dead().value, later]) }), { event: "other" });
    expect(Buffer.from(value).includes(later)).toBe(true);
  });

  it("has the id the letter had, or one of its position alone when it had none of sixteen bytes", () => {
    expect(replayed(dead()).id).toBe(formatUuid(EVENT.id));
    const short = (place: Partial<DeadRecord>) =>
      dead({}, { value: Buffer.concat([Buffer.from([0x0a, 3, 1, 2, 3]), dead().value.subarray(18)]), ...place });
    const ids = [{}, { appendTimeMs: 1, key: Buffer.from("x") }, { offset: 10 }, { epoch: "ep2" }].map(
      (place) => (makeReplay(short(place), NOTHING) as ReplayRecord).id,
    );
    expect(ids[0]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(ids[0]).toBe(ids[1]);
    expect(new Set(ids).size).toBe(3);
  });

  it("has properties changed key by key, the digits of the others kept, and what they lift lifted again", () => {
    const letter = dead({ propertiesJson: '{"n":12345678901234567890,"x":1.10}', host: "old" });
    const property = new Map([
      ["$host", '"new"'],
      ["x", "null"],
    ]);
    const { record } = replayed(letter, { property });
    expect(Buffer.from(record.propertiesJson).toString()).toBe('{"n":12345678901234567890,"x":null,"$host":"new"}');
    expect(record.host).toBe("new");
  });

  it("has any key set, and finds it however the letter spells it", () => {
    const letter = dead({ propertiesJson: '{ "\\u0061" : 1,\n"__proto__":{"b": 2} }' });
    const property = new Map([
      ["a", "[2.0]"],
      ["__proto__", "null"],
      ["toString", "1e400"],
    ]);
    expect(Buffer.from(replayed(letter, { property }).record.propertiesJson).toString()).toBe(
      '{"\\u0061":[2.0],"__proto__":null,"toString":1e400}',
    );
  });

  it("has the properties' own text, without the space around it", () => {
    const { record } = replayed(dead({ propertiesJson: ' {"a":\t1.0} ' }));
    expect(Buffer.from(record.propertiesJson).toString()).toBe('{"a":\t1.0}');
  });

  it("has times that a table can hold", () => {
    const { record } = replayed(dead({ timeUs: 2 ** 54, receivedUs: 2 ** 54 }));
    expect(Number(record.receivedUs)).toBe(1.7e15);
    expect(Number(record.timeUs)).toBe(1.7e15 + 86_400_000_000);
    expect(record.originalTime).toBe("18014398509481984us");
  });

  it("can lose its value", () => {
    expect(replayed(dead({ value: Number.NaN }), { value: null }).record.value).toBe(undefined);
  });
});

describe("there is no replay", () => {
  it.each([
    ["a value that is no number", dead({ value: Number.POSITIVE_INFINITY }), "value: must be a finite number"],
    ["a blank name", dead({ event: " " }), "event: must not be blank"],
    ["properties that are no JSON", dead({ propertiesJson: '{"a":}' }), "properties: is not JSON"],
    ["properties that are a list", dead({ propertiesJson: "[1]" }), "properties: must be a JSON object, not an array"],
    ["a name that is too long", dead({ event: "x".repeat(201) }), "event: has 201 bytes"],
    [
      "bytes that are something else",
      dead({}, { value: Buffer.from([0x0a, 0xff, 1]) }),
      "value: is not an EventRecord",
    ],
  ])("of %s", (_, letter, expected) => {
    expect(faultOf(letter)).toContain(expected);
  });

  it("of broken properties of which one is set, but there is when they are set as a whole", () => {
    const letter = dead({ propertiesJson: '{"a":}' });
    expect(faultOf(letter, { property: new Map([["a", "1"]]) })).toContain("set it as a whole");
    expect(faultOf(letter, { properties: "{}", property: new Map([["a", "1"]]) })).toBe(undefined);
  });

  it("of properties with a key twice, but there is when they are set as a whole", () => {
    const letter = dead({ propertiesJson: '{"a":1,"a":2}' });
    expect(faultOf(letter)).toContain("properties.a: is there twice");
    expect(faultOf(letter, { properties: '{"a":2}' })).toBe(undefined);
  });
});
