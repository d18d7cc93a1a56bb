// The time of an event as every wire of the gateway takes it: to the microsecond, within its bounds, or not at all.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { EventRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { KEY } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

const NOW_MS = Date.UTC(2026, 2, 27, 12);
const WIRES: Record<string, [path: string, bodyOf: (time: string) => unknown]> = {
  "/events": ["/events", (created_at) => ({ event_type: "e", source: "s", created_at })],
  "/batch/": ["/batch/", (timestamp) => ({ api_key: KEY, batch: [{ event: "e", distinct_id: "d", timestamp }] })],
  Publish: ["/millrace.events.v1.EventService/Publish", (time) => ({ events: [{ event: "e", time }] })],
};

let gateway: TestGateway;
let before = 0;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY] }, () => NOW_MS);
});
afterAll(() => gateway[Symbol.asyncDispose]());
beforeEach(async () => {
  before = (await gateway.stored()).length;
});

const stored = async (): Promise<EventRecord[]> => (await gateway.events()).slice(before);

describe.each(Object.entries(WIRES))("%s", (_wire, [path, bodyOf]) => {
  const post = (time: string) => {
    const headers = { "content-type": "application/json", "x-api-key": KEY };
    return callH1(gateway.port, path, { headers, body: JSON.stringify(bodyOf(time)) });
  };

  it.each([
    ["2026-03-27T11:00:00.123456Z", 1_774_609_200_123_456n],
    ["2026-03-27T11:00:00.1239Z", 1_774_609_200_123_900n],
    ["2026-03-27T13:00:00.000001+02:00", 1_774_609_200_000_001n],
    ["1970-01-01T00:00:00Z", 0n],
    ["2024-02-29T23:59:59.999999Z", 1_709_251_199_999_999n],
  ])("stores %s to the microsecond", async (time, expected) => {
    expect((await post(time)).status).toBe(200);
    expect((await stored()).map(({ timeUs, originalTime }) => [timeUs, originalTime])).toEqual([[expected, ""]]);
  });

  it.each([
    ["1969-12-31T23:59:59.999999Z", 0n],
    ["2026-03-28T12:00:00.000001Z", BigInt(NOW_MS + 86_400_000) * 1000n],
    ["9999-12-31T23:59:59Z", BigInt(NOW_MS + 86_400_000) * 1000n],
  ])("moves %s to its bound and keeps it", async (time, expected) => {
    expect((await post(time)).status).toBe(200);
    const [record] = await stored();
    expect([record?.timeUs, Date.parse(record?.originalTime ?? "")]).toEqual([expected, Date.parse(time)]);
  });

  it.each([
    "soon",
    "2024",
    "1700000000",
    "2026-13-01T00:00:00Z",
    "03/04/2026",
    `2026-03-27T12:00:00.${"0".repeat(90)}Z`,
  ])("refuses %s", async (time) => {
    expect((await post(time)).status).toBe(400);
    expect(await stored()).toEqual([]);
  });
});
