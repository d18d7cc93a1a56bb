import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatUuid, personIdOf } from "./ids.ts";
import { createRecordEncoder, decodeRecord, type LogEvent } from "./record.ts";
import { createEventRows, EVENT_COLUMNS } from "./row.ts";

const EVENT: LogEvent = {
  id: Buffer.from("0192f0c123457abc8def0123456789ab", "hex"),
  idFromCaller: true,
  event: "page_view",
  distinctId: "user_123",
  source: "landing",
  value: 1.5,
  timeUs: 1_795_255_200_000_001,
  receivedUs: 1_795_255_201_000_000,
  propertiesJson: '{"a":1.0,"b":12345678901234567890}',
  checkStored: false,
  originalTime: "",
  apiKey: "key",
  ip: "127.0.0.1",
  userAgent: "curl",
  sessionId: "s",
  windowId: "w",
  elementsChain: "e",
  currentUrl: "u",
  host: "h",
  anonDistinctId: "anon_1",
  deviceId: "d",
};
const rows = createEventRows({ epoch: 'e"1', topic: "millrace.events", partition: 3 });
const encode = createRecordEncoder();

function rowText(event: LogEvent): string {
  return Buffer.from(rows.row(decodeRecord(encode(event)), 42, 1_795_255_202_003)).toString();
}

function columnsOf(event: LogEvent): Record<string, unknown> {
  const values = JSON.parse(rowText(event)) as unknown[];
  expect(values.length).toBe(EVENT_COLUMNS.length);
  return Object.fromEntries(EVENT_COLUMNS.map((column, i) => [column, values[i]]));
}

describe("event row", () => {
  it("has each value in its column", () => {
    expect(columnsOf(EVENT)).toEqual({
      uuid: "0192f0c1-2345-7abc-8def-0123456789ab",
      uuid_from_caller: 1,
      api_key: "key",
      event: "page_view",
      distinct_id: "user_123",
      person_id_at_ingest: "c0486609-82cd-5d27-a86e-f354f09b7ee0",
      session_id: "s",
      window_id: "w",
      elements_chain: "e",
      timestamp: "2026-11-21 10:00:00.000001",
      inserted_at: "2026-11-21 10:00:01.000000",
      ip: "127.0.0.1",
      user_agent: "curl",
      current_url: "u",
      host: "h",
      source: "landing",
      value: 1.5,
      original_timestamp: "",
      anon_distinct_id: "anon_1",
      log_offset: 42,
      log_time: "2026-11-21 10:00:02.003000",
      log_epoch: 'e"1',
      log_topic: "millrace.events",
      log_partition: 3,
      properties: JSON.parse(EVENT.propertiesJson as string) as unknown,
    });
  });

  it("passes the properties on byte for byte, so that numbers keep their digits", () => {
    expect(rowText(EVENT).endsWith(`,${EVENT.propertiesJson}]\n`)).toBe(true);
  });

  it("says null for an absent value and 0 for zero", () => {
    expect(columnsOf({ ...EVENT, value: undefined }).value).toBeNull();
    expect(columnsOf({ ...EVENT, value: 0 }).value).toBe(0);
  });

  it("is one line of JSON with the strings as they were, whatever they hold", () => {
    const hostile = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom(
        '"',
        "\\",
        '\\"',
        "\n",
        "\r\n",
        "\t",
        "\u0000",
        "\u001f",
        "\u007f",
        "\u2028",
        "\u2029",
        "😀",
        "],[",
      ),
      fc.constantFrom("\ud800", "\udc00x", '"\ud800'),
    );
    const strings = { event: hostile, distinctId: hostile, userAgent: hostile, apiKey: hostile, originalTime: hostile };
    fc.assert(
      fc.property(fc.record(strings), fc.double({ noNaN: true, noDefaultInfinity: true }), (texts, value) => {
        const event = { ...EVENT, ...texts, value };
        const line = rowText(event);
        expect(line.indexOf("\n")).toBe(line.length - 1);
        const row = columnsOf(event);
        expect(row).toMatchObject({
          event: texts.event.toWellFormed(),
          distinct_id: texts.distinctId.toWellFormed(),
          user_agent: texts.userAgent.toWellFormed(),
          api_key: texts.apiKey.toWellFormed(),
          original_timestamp: texts.originalTime.toWellFormed(),
          uuid: formatUuid(EVENT.id),
          person_id_at_ingest: personIdOf(texts.distinctId.toWellFormed()),
        });
        expect((row.value as number) + 0).toBe(value + 0);
      }),
    );
  });

  it("takes strings larger than its buffer", () => {
    const large = { ...EVENT, event: "日".repeat(100_000), propertiesJson: `{"a":"${"x".repeat(200_000)}"}` };
    expect(columnsOf(large)).toMatchObject({ event: large.event, properties: { a: "x".repeat(200_000) } });
  });
});
