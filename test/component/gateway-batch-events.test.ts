// What POST /batch/ makes of the events of a request (product-analytics contract, sections 1.5 and 1.8).
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { EVENT, JSON_TYPE, KEY, ORIGIN, postBatch } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

const NOW_MS = Date.UTC(2026, 2, 27, 12);
const UUID = "0192f0c1-2345-7abc-8def-0123456789ab";

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY], allowedOrigins: [ORIGIN] }, () => NOW_MS);
});
afterAll(() => gateway[Symbol.asyncDispose]());

/** The records that one request made. */
async function recordsOf(batch: readonly unknown[], envelope = {}, headers = {}): Promise<EventRecord[]> {
  const before = (await gateway.stored()).length;
  const answer = await postBatch(gateway.port, batch, envelope, headers);
  expect(answer.status).toBe(200);
  return (await gateway.events()).slice(before);
}

async function recordOf(event: object, envelope = {}, headers = {}): Promise<EventRecord> {
  const records = await recordsOf([{ ...EVENT, ...event }], envelope, headers);
  expect(records.length).toBe(1);
  return records[0] as EventRecord;
}

const propertiesOf = (record: EventRecord) => Buffer.from(record.propertiesJson).toString();
/** With milliseconds, or microseconds where there are any. */
function iso(us: bigint): string {
  const text = new Date(Number(us / 1000n)).toISOString();
  return us % 1000n === 0n ? text : `${text.slice(0, -1)}${String(us % 1000n).padStart(3, "0")}Z`;
}

describe("the distinct id is the first text that is not blank", () => {
  it.each([
    ["of the event", { distinct_id: "a", properties: { distinct_id: "b" } }, "a"],
    ["of the properties, as the browser SDK sends it", { properties: { distinct_id: "b", $distinct_id: "c" } }, "b"],
    ["of the $ property", { properties: { $distinct_id: "c" } }, "c"],
    ["not a blank one", { distinct_id: " ", properties: { distinct_id: "\t", $distinct_id: "c" } }, "c"],
    ["not another type", { properties: { distinct_id: 5, $distinct_id: "c" } }, "c"],
    ["untrimmed", { distinct_id: " d " }, " d "],
  ])("%s", async (_case, event, expected) => {
    const [record] = await recordsOf([{ event: " e ", ...event }]);
    expect([record?.distinctId, record?.event]).toEqual([expected, " e "]);
  });

  it.each([
    ["no distinct id", { event: "e" }],
    ["a blank distinct id", { event: "e", distinct_id: " \n" }],
    ["ids of other types in the properties", { event: "e", properties: { distinct_id: 5, $distinct_id: null } }],
    ["no event", { distinct_id: "d" }],
    ["a blank event", { event: "\u00a0", distinct_id: "d" }],
  ])("an event with %s is dropped, its neighbours are stored", async (_case, event) => {
    const before = (await gateway.stored()).length;
    const answer = await postBatch(gateway.port, [EVENT, event, EVENT]);
    expect(answer.text).toBe('{"status":"ok","ingested":2,"dropped":1}');
    expect((await gateway.stored()).length).toBe(before + 2);
  });
});

describe("the id", () => {
  it.each([UUID, UUID.toUpperCase()])("%s is the caller's", async (uuid) => {
    const record = await recordOf({ uuid });
    expect([formatUuid(record.id), record.idFromCaller]).toEqual([UUID, true]);
  });

  it.each(["", "x", "0192f0c123457abc8def0123456789ab", 5, null, {}, undefined])(
    "is the gateway's where the caller sends %j",
    async (uuid) => {
      const record = await recordOf({ uuid });
      expect([formatUuid(record.id).charAt(14), record.idFromCaller]).toEqual(["7", false]);
    },
  );
});

describe("the time", () => {
  it.each([
    ["2026-03-27T11:00:00Z", "2026-03-27T11:00:00.000Z"],
    ["2026-03-27T11:00:00.123456Z", "2026-03-27T11:00:00.123456Z"],
    ["2026-03-27 11:00:00.123400", "2026-03-27T11:00:00.123400Z"],
    ["2026-03-27T11:00:00+02:00", "2026-03-27T09:00:00.000Z"],
    ["2026-03-27T11:00:00", "2026-03-27T11:00:00.000Z"],
    ["2026-03-27 11:00:00", "2026-03-27T11:00:00.000Z"],
    ["2026-03-27", "2026-03-27T00:00:00.000Z"],
    ["Fri, 27 Mar 2026 11:00:00 +0100", "2026-03-27T10:00:00.000Z"],
    ["Fri, 27 Mar 2026 11:00:00", "2026-03-27T11:00:00.000Z"],
    ["Fri Mar 27 2026 12:00:00 GMT+0100 (Central European Standard Time)", "2026-03-27T11:00:00.000Z"],
  ])("%j is %s", async (timestamp, expected) => {
    const record = await recordOf({ timestamp });
    expect([iso(record.timeUs), record.originalTime]).toEqual([expected, ""]);
  });

  it("is the receive time where there is none, one moment for the whole request", async () => {
    const records = await recordsOf([EVENT, { ...EVENT, timestamp: "" }]);
    for (const { timeUs, receivedUs } of records)
      expect([timeUs, receivedUs]).toEqual(Array(2).fill(BigInt(NOW_MS) * 1000n));
  });

  it.each([
    ["1969-07-20T20:17:40Z", "1970-01-01T00:00:00.000Z"],
    ["9999-12-31T23:59:59Z", "2026-03-28T12:00:00.000Z"],
    ["+275760-09-13T00:00:00Z", "2026-03-28T12:00:00.000Z"],
  ])("%s is out of range, moved to %s, and kept as it was", async (timestamp, expected) => {
    const clamped = await gateway.metric("millrace_event_times_clamped_total");
    const record = await recordOf({ timestamp });
    expect([iso(record.timeUs), record.originalTime]).toEqual([expected, timestamp]);
    expect(await gateway.metric("millrace_event_times_clamped_total")).toBe(clamped + 1);
  });

  const unreadable = [
    "2024",
    "0",
    "1700000000",
    "soon",
    "2024-02-30",
    "2026-13-01",
    "03/04/2026",
    "2026-03-27T24:00:00Z",
  ];
  it.each(unreadable)("%j cannot be read", async (timestamp) => {
    const { status, text } = await postBatch(gateway.port, [{ ...EVENT, timestamp }]);
    expect([status, text]).toEqual([400, expect.stringContaining(`batch[0].timestamp: \\"${timestamp}\\"`)]);
  });

  it("is moved by what sent_at says of a browser's clock, and kept as it was", async () => {
    const clamped = await gateway.metric("millrace_event_times_clamped_total");
    const [early, late] = await recordsOf(
      [
        { ...EVENT, timestamp: "2020-01-01T00:00:00Z" },
        { ...EVENT, timestamp: "2020-01-01T00:00:09.5Z" },
      ],
      { sent_at: "2020-01-01T00:00:10.000Z" },
      { origin: ORIGIN },
    );
    expect([iso(early?.timeUs ?? 0n), early?.originalTime]).toEqual([
      "2026-03-27T11:59:50.000Z",
      "2020-01-01T00:00:00Z",
    ]);
    expect(iso(late?.timeUs ?? 0n)).toBe("2026-03-27T11:59:59.500Z");
    expect(await gateway.metric("millrace_event_times_clamped_total")).toBe(clamped);
  });

  it.each([
    [true, true],
    [false, false],
    [undefined, false],
    ["true", false],
    [1, false],
  ])("is looked up among what is stored by check_stored: %j is %s", async (check_stored, expected) => {
    const record = await recordOf({}, check_stored === undefined ? {} : { check_stored });
    expect(record.checkStored).toBe(expected);
  });

  const sent = ["soon", "0", "2020-01-01", 1_577_836_800, null, {}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"];
  it.each(sent)("is not moved by sent_at %j", async (sent_at) => {
    const record = await recordOf({ timestamp: "2026-03-27T11:00:00Z" }, { sent_at }, { origin: ORIGIN });
    expect([iso(record.timeUs), record.originalTime]).toEqual(["2026-03-27T11:00:00.000Z", ""]);
  });

  it.each(["2026-03-27T11:59:54Z", "2026-03-27T10:00:00Z", "2020-01-01T00:00:00Z"])(
    "of a server is not moved by sent_at %j",
    async (sent_at) => {
      const record = await recordOf({ timestamp: "2026-03-27T11:00:00.123456Z" }, { sent_at });
      expect([iso(record.timeUs), record.originalTime]).toEqual(["2026-03-27T11:00:00.123456Z", ""]);
    },
  );

  it.each([true, "true", 1])("is not moved where $ignore_sent_at is %j", async ($ignore_sent_at) => {
    const event = { timestamp: "2026-03-27T11:00:00Z", properties: { $ignore_sent_at } };
    const record = await recordOf(event, { sent_at: "2026-03-27T11:30:00Z" }, { origin: ORIGIN });
    expect([iso(record.timeUs), record.originalTime]).toEqual(["2026-03-27T11:00:00.000Z", ""]);
  });

  it("is not moved where the event has none", async () => {
    const record = await recordOf({}, { sent_at: "2020-01-01T00:00:00Z" });
    expect([record.timeUs, record.originalTime]).toEqual([BigInt(NOW_MS) * 1000n, ""]);
  });
});

describe("properties", () => {
  it.each([
    "1.0",
    "9007199254740993",
    "12345678901234567890",
    "1e400",
    '[-1e400,{"a":-1e999}]',
    "-0",
    '{"b":1,"2":2,"a":3,"1":4}',
    '[ 1 ,\n\t"\\u0041\\/" ]',
    '"\\ud83d\\ude00 é\\u00e9"',
    '{"__proto__":{"a":1},"constructor":{"prototype":2}}',
  ])("hold %s as it was sent", async (given) => {
    const body = `{"api_key":"${KEY}","batch":[{"event":"e","distinct_id":"d","properties": { "v" : ${given} } }]}`;
    expect((await callH1(gateway.port, "/batch/", { headers: JSON_TYPE, body })).status).toBe(200);
    expect(propertiesOf((await gateway.events()).at(-1) as EventRecord)).toBe(`{ "v" : ${given} }`);
  });

  it("hold U+FFFD in the place of half a surrogate pair, and all else as it was sent", async () => {
    const body = `{"api_key":"${KEY}","batch":[{"event":"e","distinct_id":"d","properties":{"v":"\\ud800", "n": 1.0}}]}`;
    expect((await callH1(gateway.port, "/batch/", { headers: JSON_TYPE, body })).status).toBe(200);
    expect(propertiesOf((await gateway.events()).at(-1) as EventRecord)).toBe('{"v":"\ufffd", "n": 1.0}');
  });

  it("are {} where there are none", async () => {
    expect(propertiesOf(await recordOf({}))).toBe("{}");
  });

  it("keep what is lifted out of them: the first text that is not blank, the $ name first, untrimmed", async () => {
    const properties = {
      $session_id: " ",
      session_id: " s ",
      $window_id: 5,
      window_id: "w",
      $elements_chain: "a > b",
      elements_chain: "not this",
      $current_url: null,
      current_url: "u",
      $host: "h",
      $anon_distinct_id: "anon",
      $device_id: "dev",
    };
    const record = await recordOf({ properties });
    expect(record).toMatchObject({
      sessionId: " s ",
      windowId: "w",
      elementsChain: "a > b",
      currentUrl: "u",
      host: "h",
    });
    expect(record).toMatchObject({ anonDistinctId: "anon", deviceId: "dev" });
    expect(JSON.parse(propertiesOf(record))).toEqual(properties);
  });

  it("are all that is kept of an event's members, but for what they say about people", async () => {
    const record = await recordOf({ type: "capture", offset: 5, properties: { b: 1 } });
    expect(propertiesOf(record)).toBe('{"b":1}');
  });

  it("and names with quotes, line breaks, SQL and half characters are stored, not run", async () => {
    const nasty = "'; DROP TABLE events; -- \"\n\u0000\u2028\ud83d";
    const record = await recordOf({ event: nasty, distinct_id: nasty, properties: { [nasty]: nasty } });
    expect([record.event, record.distinctId]).toEqual([nasty.toWellFormed(), nasty.toWellFormed()]);
    expect(JSON.parse(propertiesOf(record))).toEqual({ [nasty.toWellFormed()]: nasty.toWellFormed() });
  });
});

it("the user agent is stored, and none as nothing", async () => {
  expect((await recordOf({}, {}, { "user-agent": "sdk/1" })).userAgent).toBe("sdk/1");
  expect((await recordOf({})).userAgent).toBe("");
});
