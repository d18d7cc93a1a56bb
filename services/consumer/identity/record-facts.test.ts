import { describe, expect, it } from "vitest";
import { encodeRecordPlain, type LogEvent } from "#lib/events/record.ts";
import { createRecordScanner } from "#lib/events/record-scanner.ts";
import { IDENTITY_EVENTS } from "#lib/identity/facts.ts";
import { GROUP_EVENT } from "#lib/identity/groups.ts";
import { factsOfRecord, isIdentityEvent } from "./record-facts.ts";

const EVENT: LogEvent = {
  ...{ id: Buffer.from("00112233445566778899aabbccddeeff", "hex"), idFromCaller: false, checkStored: false },
  ...{ event: "$identify", distinctId: "é", timeUs: 7, receivedUs: 8, propertiesJson: "{}", value: undefined },
  ...{ source: "", originalTime: "", apiKey: "", ip: "", userAgent: "", sessionId: "", windowId: "" },
  ...{ elementsChain: "", currentUrl: "", host: "", anonDistinctId: "", deviceId: "" },
};

function scanned(fields: Partial<LogEvent>) {
  const scanner = createRecordScanner();
  scanner.scan(encodeRecordPlain({ ...EVENT, ...fields }));
  return scanner;
}

describe("records that may say something about identity", () => {
  it.each([...IDENTITY_EVENTS, GROUP_EVENT])("%s is one", (event) => {
    expect(isIdentityEvent(scanned({ event }))).toBe(true);
  });

  it.each(["$pageview", "$Identify", "identify$", "$se", "$sets", "é", "$create_aliaS"])(
    "%s is not an identity event",
    (event) => {
      expect(isIdentityEvent(scanned({ event }))).toBe(false);
    },
  );
});

it.each([
  ['{"$groups":{"company":"a"}}', true],
  ['{"a":{"$groups":{"company":"a"}}}', false],
  ['{"$groupset":1}', false],
  ['{"$group":1}', false],
])("an event with %s may name groups: %s", (propertiesJson, expected) => {
  expect(isIdentityEvent(scanned({ event: "e", propertiesJson }))).toBe(expected);
});

describe("facts of a record", () => {
  it("have its ids, its time and its properties with their digits", () => {
    const propertiesJson = '{"$anon_distinct_id":"a","$set":{"n":1.0}}';
    const moment = { timeUs: 7, eventId: "00112233-4455-6677-8899-aabbccddeeff" };
    expect(factsOfRecord(scanned({ propertiesJson }))).toEqual({
      edge: { kind: "identify", id: "é", other: "a", trusted: false, ...moment },
      properties: [{ distinctId: "é", key: "n", operation: "set", value: "1.0", ...moment }],
      isRefused: false,
    });
  });

  it("know whether the caller was trusted", () => {
    const merge = { event: "$merge_dangerously", propertiesJson: '{"alias":"x"}' };
    expect(factsOfRecord(scanned({ ...merge, trusted: true })).edge?.other).toBe("x");
    expect(factsOfRecord(scanned(merge))).toEqual({ edge: undefined, properties: [], isRefused: true });
  });

  it("are ignored when the text between the braces is not JSON", () => {
    expect(factsOfRecord(scanned({ propertiesJson: "{nonsense}" }))).toMatchObject({ edge: undefined, properties: [] });
  });
});
