// Publish over Connect in protobuf, as the gateway reads it itself and as the RPC library does, which knows the content type
// in capital letters as well: the same answers, and the same records.
import { create, fromBinary, type MessageInitShape, toBinary, toJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { PublishRequestSchema, PublishResponseSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1, connectH2 } from "../kit/http-calls.ts";
import { PUBLISH } from "../kit/watched-gateway.ts";

const MAX_BYTES = 100_000;
const OWN = "application/proto";
const PLAIN = "application/PROTO";

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ secretApiKeys: ["secret"], maxBatchBytes: MAX_BYTES, maxEventsPerBatch: 100 });
});
afterAll(() => gateway[Symbol.asyncDispose]());

type Fields = MessageInitShape<typeof PublishRequestSchema>;

function message(fields: Fields): Buffer {
  return Buffer.from(toBinary(PublishRequestSchema, create(PublishRequestSchema, fields)));
}

async function call(type: string, body: Buffer, headers: Record<string, string> = {}, isH2 = false) {
  const given = { headers: { "content-type": type, "x-api-key": "secret", ...headers }, body };
  using session = isH2 ? connectH2(gateway.port) : undefined;
  const { status, ...answer } = await (session ? session.call(PUBLISH, given) : callH1(gateway.port, PUBLISH, given));
  const retryAfter = answer.headers["retry-after"];
  // As Connect's specification has them, without a charset.
  expect(answer.headers["content-type"]).toBe(status === 200 ? OWN : "application/json");
  if (status !== 200) return { status, retryAfter, told: JSON.parse(answer.text) as unknown };
  return { status, retryAfter, told: toJson(PublishResponseSchema, fromBinary(PublishResponseSchema, answer.body)) };
}

const PROPERTIES = { case: "propertiesJson" as const, value: '{"a":1.50,"$session_id":"s"}' };
const TIME = { seconds: 1_700_000_000n, nanos: 123_456_789 };
const ALL = { id: "0192f0c1-2345-7abc-8def-0123456789ab", event: "e", distinctId: "é", source: "web", value: 1 };

const CASES: [string, Buffer, Record<string, string>?][] = [
  ["an event with all fields", message({ events: [{ ...ALL, time: TIME, propertiesKind: PROPERTIES }] })],
  [
    "an event with a Struct",
    message({ events: [{ event: "e", propertiesKind: { case: "properties", value: { a: 1 } } }] }),
  ],
  ["a bad event between good ones", message({ events: [{ event: "a" }, { event: " " }, { event: "b" }] })],
  [
    "properties that are no JSON",
    message({ events: [{ event: "a", propertiesKind: { case: "propertiesJson", value: "[" } }, { event: "b" }] }),
  ],
  [
    "events of no time",
    message({
      events: [
        { event: "a", time: { nanos: -1 } },
        { event: "b", time: { nanos: 1 } },
      ],
    }),
  ],
  ["events with answers of places", message({ events: [{ event: "a" }, { event: "" }], returnPositions: true })],
  ["no events", message({})],
  ["too many events", message({ events: Array.from({ length: 101 }, () => ({ event: "e" })) })],
  ["what is no protobuf", Buffer.from([0xff, 0xff, 0xff, 0x01, 0x02])],
  ["a text that is not UTF-8", Buffer.from([0x0a, 3, 0x12, 1, 0xff])],
  ["a wrong key", message({ events: [{ event: "a" }] }), { "x-api-key": "other" }],
  ["a deadline", message({ events: [{ event: "a" }] }), { "connect-timeout-ms": "1" }],
  ["an encoding that nobody knows", message({ events: [{ event: "a" }] }), { "content-encoding": "rot13" }],
];

/** Without what differs from call to call. */
async function storedSince(first: number) {
  const records = (await gateway.events()).slice(first);
  return records.map(({ id, idFromCaller, receivedUs, timeUs, ...rest }) => ({
    ...rest,
    id: idFromCaller ? Buffer.from(id).toString("hex") : "made",
    timeUs: timeUs === receivedUs ? "of arrival" : timeUs,
  }));
}

it.each(CASES)("%s is answered and stored as by the library", async (_, body, headers) => {
  const outcomes: { answer: unknown; records: unknown }[] = [];
  for (const [type, isH2] of [
    [PLAIN, false],
    [OWN, false],
    [OWN, true],
  ] as const) {
    const first = (await gateway.events()).length;
    const answer = await call(type, body, headers, isH2);
    const positions = JSON.stringify(answer).replaceAll(/millrace\.events:0:\d+/g, "a place");
    outcomes.push({ answer: JSON.parse(positions), records: await storedSince(first) });
  }
  const [plain, ...own] = outcomes;
  for (const each of own) expect(each).toEqual(plain);
});

it("a body that is too large has the library's code", async () => {
  const body = Buffer.alloc(MAX_BYTES + 1);
  const answers = [await call(PLAIN, body), await call(OWN, body)];
  for (const { status, told } of answers) {
    expect([status, told]).toMatchObject([429, { code: "resource_exhausted" }]);
  }
});

it("a log that is away is told as by the library", async () => {
  gateway.appendBy(async () => {
    throw new LogUnavailableError("away");
  });
  const body = message({ events: [{ event: "a" }] });
  const [plain, own] = [await call(PLAIN, body), await call(OWN, body)];
  gateway.appendBy(undefined);
  expect(own).toEqual(plain);
  expect(own).toMatchObject({ status: 503, retryAfter: expect.stringMatching(/^\d+$/), told: { code: "unavailable" } });
});
