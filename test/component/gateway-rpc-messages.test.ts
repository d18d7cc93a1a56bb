// What an EventService message is refused for while it is bytes, in every protocol and format that it may come in.
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PublishRequestSchema } from "#gen/millrace/events/v1/events_pb.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callGrpc } from "../kit/grpc-calls.ts";
import { callH1, envelope } from "../kit/http-calls.ts";

const SERVICE = "/millrace.events.v1.EventService";
const zipped = promisify(gzip);

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(() => gateway[Symbol.asyncDispose]());

type Format = "json" | "proto";
type Call = (format: Format, message: Buffer) => Promise<{ code: string; message: string }>;

const GRPC_CODES: Record<string, string> = { 0: "ok", 3: "invalid_argument", 8: "resource_exhausted" };

async function connect(type: string, body: Buffer, headers = {}) {
  const answer = await callH1(gateway.port, `${SERVICE}/Publish`, {
    headers: { "content-type": type, ...headers },
    body,
  });
  if (answer.status === 200) return { code: "ok", message: "" };
  const { code, message } = JSON.parse(answer.text) as { code: string; message: string };
  return { code, message };
}

async function grpc(method: string, type: string, message: Buffer, isZipped: boolean) {
  const body = envelope(isZipped ? await zipped(message) : message, isZipped ? 1 : 0);
  const headers = { "content-type": type, ...(isZipped && { "grpc-encoding": "gzip" }) };
  const { trailers } = await callGrpc(gateway.url, `${SERVICE}/${method}`, body, headers);
  const status = String(trailers["grpc-status"]);
  return { code: GRPC_CODES[status] ?? status, message: decodeURIComponent(String(trailers["grpc-message"] ?? "")) };
}

const CALLS: [string, Call][] = [
  ["Connect", (format, message) => connect(`application/${format}`, message)],
  [
    "Connect, gzip",
    async (format, message) => connect(`application/${format}`, await zipped(message), { "content-encoding": "gzip" }),
  ],
  ["gRPC", (format, message) => grpc("Publish", `application/grpc+${format}`, message, false)],
  ["gRPC, gzip", (format, message) => grpc("Publish", `application/grpc+${format}`, message, true)],
];

describe.each(CALLS)("over %s", (_, call) => {
  const json = (text: string | Buffer) => call("json", Buffer.from(text));

  it("bytes that are not UTF-8 are refused with their place", async () => {
    const bytes = Buffer.from('{"events":[{"event":"a","distinctId":"\xff"}]}', "latin1");
    expect(await json(bytes)).toMatchObject({ code: "invalid_argument", message: expect.stringContaining("UTF-8") });
    expect(await json(bytes)).toMatchObject({ message: expect.stringContaining("byte 38") });
  });

  it.each([
    ["event", "5", "must be a string, not a number"],
    ["distinctId", "42", "must be a string, not a number"],
    ["distinct_id", "true", "must be a string, not a boolean"],
    ["id", "{}", "must be a string, not an object"],
    ["value", "[]", "must be a number, not an array"],
    ["value", '"many"', 'must be a number, not "many"'],
    ["properties", '"{}"', "must be an object, not a string"],
    ["propertiesJson", "{}", "must be a string, not an object"],
    ["evnt", "1", "is unknown: an event has no such field"],
    ["time", "1795140000", "must be a string, not a number"],
    [
      "time",
      '"2026-02-30T00:00:00Z"',
      '"2026-02-30T00:00:00Z" is no time of RFC 3339 such as 2026-03-27T12:00:00Z, or does not exist',
    ],
    ["time", '"2026-04-31T00:00:00+01:00"', expect.stringContaining("does not exist")],
    ["time", '"2026-01-01T24:00:00Z"', expect.stringContaining("does not exist")],
    ["time", '"2025-02-29T00:00:00Z"', expect.stringContaining("does not exist")],
    ["time", '"yesterday"', expect.stringContaining("is no time")],
    ["time", '"0000-01-01T00:00:00Z"', '"0000-01-01T00:00:00Z" is not within the years 1 to 9999'],
    ["time", '"9999-12-31T23:59:60Z"', '"9999-12-31T23:59:60Z" is not within the years 1 to 9999'],
    ["time", '"9999-12-31T23:59:59-00:01"', expect.stringContaining("is not within the years 1 to 9999")],
    ["time", '"2026-01-01T00:00:00.5.5Z"', expect.stringContaining("is no time")],
    ["value", "1e400", 'must be a number, not "1e400"'],
    ["event", '"a"', expect.stringContaining("is there twice in one object")],
  ])("a wrong %s of %s names its event", async (field, value, fault) => {
    const isTwice = field === "event" && value === '"a"';
    const other = isTwice || field !== "event" ? "event" : "id";
    const text = `{"events":[{"event":"a"},{"event":"b"},{"${other}":"","${field}":${value}}]}`;
    const { code, message } = await json(text);
    const prefix = `events[2].${field}: `;
    expect([code, message.slice(0, prefix.length)]).toEqual(["invalid_argument", prefix]);
    expect(message.slice(prefix.length)).toEqual(fault);
  });

  it("properties of both kinds are refused by their event", async () => {
    const text =
      '{"events":[{"event":"a","properties":null,"propertiesJson":"{}"},{"event":"b","properties":{},"properties_json":"{}"}]}';
    expect(await json(text)).toEqual({
      code: "invalid_argument",
      message: "events[1].properties_json: is there beside other properties; send one of them",
    });
  });

  // JSON.parse rounds numbers, and reads the key "A" spelled with an escape as the key of an object before it.
  it("properties are stored as they were sent", async () => {
    const texts = [
      String.raw`{"x":[{"a":1,"\\":2},{"a":1,"\u0041":2}]}`,
      String.raw`{"$set":{"a":1,"\\":2},"$set_once":{"a":1,"\u0041":2}}`,
      '{ "n" : 1.10, "i":12345678901234567890,\n"z":-0,"h":1e400}',
      '{"__proto__":{"a":1},"constructor":2}',
      '{"half":"\\ud800"}',
    ];
    const before = (await gateway.stored()).length;
    const events = texts.map((text) => `{"event":"a","properties":${text}}`);
    expect((await json(`{"events":[${events.join(",")}]}`)).code).toBe("ok");
    const stored = (await gateway.events()).slice(before);
    expect(stored.map(({ propertiesJson }) => Buffer.from(propertiesJson).toString())).toEqual(
      texts.map((text) => text.replace("\\ud800", "\ufffd")),
    );
  });

  it("properties at fault cost their neighbours nothing", async () => {
    const before = (await gateway.stored()).length;
    const deep = `{"a":${"[".repeat(200)}${"]".repeat(200)}}`;
    const events = ['{"a":1,"a":2}', deep].map((text) => `{"event":"bad","properties":${text}}`);
    expect((await json(`{"events":[{"event":"good"},${events.join(",")}]}`)).code).toBe("ok");
    expect((await gateway.events()).slice(before).map(({ event }) => event)).toEqual(["good"]);
  });

  it("times are read as on every other wire", async () => {
    const before = (await gateway.stored()).length;
    const times = {
      "2016-12-31T23:59:60.25Z": "2017-01-01T00:00:00.250Z",
      "2020-01-02t03:04:05z": "2020-01-02T03:04:05.000Z",
      "2020-01-02 03:04:05.123456+01:00": "2020-01-02T02:04:05.123Z",
      "2020-01-02T03:04:05.1234567890123Z": "2020-01-02T03:04:05.123Z",
    };
    const events = Object.keys(times).map((time) => ({ event: "a", time }));
    expect((await json(JSON.stringify({ events }))).code).toBe("ok");
    const stored = (await gateway.events()).slice(before);
    expect(stored.map(({ timeUs }) => new Date(Number(timeUs) / 1000).toISOString())).toEqual(Object.values(times));
  });

  it("an event that is none names itself", async () => {
    expect(await json('{"events":[{"event":"a"},null]}')).toEqual({
      code: "invalid_argument",
      message: "events[1]: must be an object, not null",
    });
  });

  it("what may be null or absent may be so, and times as they are", async () => {
    const nulls = '"id":null,"source":null,"value":null,"time":null,"properties":null';
    const last = ["9999-12-31T23:59:59.999999999Z", "9999-12-31 23:59:59.999999Z", "0001-01-01T00:00:00Z"];
    const times = ["2024-02-29T23:59:59.123456789Z", "2026-12-31T00:00:00+14:00", ...last].map(
      (time) => `{"event":"a","value":"1.5","time":"${time}"}`,
    );
    expect((await json(`{"events":[{"event":"a",${nulls}},${times}],"checkStored":false}`)).code).toBe("ok");
  });

  const many = (count: number) => `events: has ${count} events; one request may have 10000`;

  it("megabytes of empty events are refused by their number, and never become objects", async () => {
    const before = process.memoryUsage().heapUsed;
    const message = Buffer.alloc(4_000_000, Buffer.from([0x0a, 0]));
    expect(await call("proto", message)).toEqual({ code: "resource_exhausted", message: many(2_000_000) });
    const count = 1_200_000;
    const text = Buffer.from(`{"events":[${"{},".repeat(count - 1)}{}]}`);
    expect(await call("json", text)).toMatchObject({ code: "resource_exhausted" });
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(100_000_000);
  });

  it("as many values in properties as no memory has room for are refused by their number", async () => {
    const list = Buffer.alloc(4_000_000, Buffer.from([0x0a, 0]));
    const field = (tag: number, payload: Buffer) =>
      Buffer.concat([Buffer.from([tag]), varint(payload.length), payload]);
    // Event{event, properties: Struct{fields{"a": Value{list}}}}
    const value = field(0x32, list);
    const entry = Buffer.concat([field(0x0a, Buffer.from("a")), field(0x12, value)]);
    const event = Buffer.concat([field(0x12, Buffer.from("e")), field(0x3a, field(0x0a, entry))]);
    const refusal = { code: "resource_exhausted", message: expect.stringContaining("more than 1000000 values") };
    expect(await call("proto", field(0x0a, event))).toEqual(refusal);
    const text = `{"events":[{"event":"e","properties":{"a":[${"0,".repeat(1_000_001)}0]}}]}`;
    expect(await call("json", Buffer.from(text))).toEqual(refusal);
  });

  it("as many events as there may be are taken, in both formats", async () => {
    const events = Array.from({ length: 10_000 }, () => ({ event: "e" }));
    const message = Buffer.from(
      toBinary(PublishRequestSchema, create(PublishRequestSchema, { events, checkStored: true })),
    );
    expect((await call("proto", message)).code).toBe("ok");
    expect((await json(JSON.stringify({ events }))).code).toBe("ok");
  });
});

it("a stream is refused at the message that has too many, and the ones before it are stored", async () => {
  const before = (await gateway.stored()).length;
  const one = Buffer.from([0x12, 0x03, 0x12, 0x01, 0x65]);
  const many = Buffer.concat(Array.from({ length: 10_001 }, () => one));
  const body = Buffer.concat([envelope(one), envelope(many), envelope(one)]);
  const { trailers } = await callGrpc(gateway.url, `${SERVICE}/PublishStream`, body, {
    "content-type": "application/grpc",
  });
  expect(trailers).toMatchObject({ "grpc-status": "8" });
  expect(decodeURIComponent(String(trailers["grpc-message"]))).toBe(
    "events: has 10001 events; one request may have 10000",
  );
  expect((await gateway.stored()).length).toBe(before + 1);
});

function varint(n: number): Buffer {
  const bytes: number[] = [];
  for (let left = n; ; left = Math.floor(left / 128)) {
    if (left < 128) return Buffer.from([...bytes, left]);
    bytes.push((left % 128) | 0x80);
  }
}

it("a message that its properties as text would take beyond the limit is read all the same", async () => {
  await using small = await startTestGateway({ maxBatchBytes: 100_000 });
  const send = (properties: string) => {
    const headers = { "content-type": "application/json" };
    return callH1(small.port, `${SERVICE}/Publish`, {
      headers,
      body: `{"events":[{"event":"a","properties":${properties}}]}`,
    });
  };
  const many = (key: string) => `{"a":[${Array.from({ length: 9_900 }, () => `"${key}"`).join(",")}]}`;
  expect((await send(many("12345"))).status).toBe(200);
  expect((await send(many(String.raw`1\u0033`))).text).toContain("too large together");
  expect((await send(many("123456789"))).text).toContain("larger than");
});
