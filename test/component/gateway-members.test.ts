// Every member of an event as every kind of value, on each wire that has a batch: it is taken or named as invalid, and costs
// none of its neighbours.
import { afterAll, beforeAll, expect, it } from "vitest";
import { jsonOf, KEY } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY] });
});
afterAll(() => gateway[Symbol.asyncDispose]());

const VALUES = [
  ...["null", "true", "0", "7", "123", "1.50", "1e400", "12345678901234567890", "NaN", "[]", '["a"]', "{}", '{"a":1}'],
  ...['""', '" "', '"x"', '"123"', '"null"', String.raw`"\ud800"`, String.raw`"\u0000"`, '"2026-03-27T12:00:00Z"'],
];

type Sample = Record<string, unknown>;

const SAID = {
  $set: { a: 1 },
  $set_once: { b: 1 },
  $unset: ["c"],
  $anon_distinct_id: "n",
  alias: "l",
  $groups: { g: "k" },
};
const LIFTED = {
  ...{ $session_id: "s", $window_id: "w", $elements_chain: "e", $current_url: "https://h/", $host: "h" },
  ...{ distinct_id: "d", $distinct_id: "d", $device_id: "v", $ignore_sent_at: true, token: KEY },
};
const POSTHOG = {
  distinct_id: "d",
  timestamp: "2026-03-27T12:00:00Z",
  uuid: "",
  properties: { ...LIFTED, ...SAID },
  ...SAID,
};
const CONTEXT = {
  ...{ ip: "i", locale: "l", timezone: "t", userAgent: "u", sessionId: "s", groupId: "g", traits: { t: 1 } },
  ...{
    library: { name: "n", version: "v" },
    page: { url: "https://h/", path: "/", host: "h", referrer: "r", title: "t" },
  },
  ...{ campaign: { source: "s", name: "n" }, app: { version: "v" }, os: { name: "n" }, screen: { width: 1 } },
};
const SEGMENT = {
  ...{ event: "e", userId: "u", anonymousId: "a", groupId: "g", previousId: "p", name: "n", category: "c" },
  ...{ messageId: "m", originalTimestamp: "", timestamp: "2026-03-27T12:00:00Z", sentAt: "2026-03-27T12:00:00Z" },
  ...{ properties: LIFTED, traits: { t: 1 }, context: CONTEXT },
};
const CLOUD = {
  ...{ specversion: "1.0", id: "1", source: "s", type: "t", subject: "u", time: "2026-03-27T12:00:00Z" },
  ...{ datacontenttype: "application/json", data_base64: "AA==", extension: "e", data: { ...LIFTED, ...SAID } },
};
const NAMES = ["e", "$identify"];
const TYPES = ["track", "identify", "group"];

const batchOf = (events: readonly string[]) => `{"batch":[${events}]}`;
const listOf = (events: readonly string[]) => `[${events}]`;
const linesOf = (events: readonly string[]) => events.join("\n");

it.each<[path: string, samples: Sample[], packed: (events: readonly string[]) => string]>([
  ["/batch/", NAMES.map((event) => ({ event, ...POSTHOG })), batchOf],
  ["/e/", NAMES.map((event) => ({ event, ...POSTHOG, $distinct_id: "d", sent_at: "" })), batchOf],
  ["/i/v1/analytics/events", [{ event: "e", ...POSTHOG, session_id: "s", window_id: "w", options: { a: 1 } }], batchOf],
  ["/v1/batch", TYPES.map((type) => ({ type, ...SEGMENT })), batchOf],
  ["/cloudevents", [CLOUD], listOf],
  ["/v0/events?name=n", [{ event: "e", ...POSTHOG, other: 1 }], linesOf],
])("POST %s", async (path, samples, packed) => {
  const events = samples.flatMap((sample) =>
    pathsOf(sample).flatMap((member) => VALUES.map((value) => withValue(sample, member, value))),
  );
  const before = (await gateway.stored()).length;
  const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
  const answer = await callH1(gateway.port, path, { headers, body: packed(events) });
  expect([200, 202], answer.text.slice(0, 300)).toContain(answer.status);
  const body = jsonOf(answer) as { rejected?: unknown[]; dropped?: number; results?: object };
  const stored = (await gateway.stored()).length - before;
  // Capture V1 says nothing of events without an id.
  if (body.results) expect(stored).toBeGreaterThan(events.length / 2);
  else expect(stored + (body.dropped ?? body.rejected?.length ?? 0)).toBe(events.length);
  expect(stored).toBeGreaterThan(events.length / 2);
});

function pathsOf(sample: Sample, above: readonly string[] = []): string[][] {
  return Object.entries(sample).flatMap(([key, value]) => {
    const path = [...above, key];
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return [path, ...(isObject ? pathsOf(value as Sample, path) : [])];
  });
}

/** The sample as JSON, with the value in the member's place. */
function withValue(sample: Sample, [key = "", ...below]: readonly string[], value: string): string {
  const members = Object.entries(sample).map(([name, own]) => {
    const text =
      name !== key ? JSON.stringify(own) : below.length === 0 ? value : withValue(own as Sample, below, value);
    return `${JSON.stringify(name)}:${text}`;
  });
  return `{${members.join(",")}}`;
}
