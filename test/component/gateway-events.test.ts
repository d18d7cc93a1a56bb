// POST /events, line by line of its contract.
import zlib from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { type Answer, type Call, callH1, connectH1, connectH2, type OneConnection } from "../kit/http-calls.ts";

const NOW = Date.UTC(2026, 10, 21);
const GOOD = { event_type: "page_view", source: "landing", created_at: "2026-03-27T12:00:00Z" };
const JSON_TYPE = { "content-type": "application/json" };
const KIB_LIMIT = 1024 * 1024;

let gateway: TestGateway;
let h1: OneConnection;
let h2: OneConnection;

beforeAll(async () => {
  gateway = await startTestGateway({ maxBatchBytes: KIB_LIMIT }, () => NOW);
  h1 = connectH1(gateway.port);
  h2 = connectH2(gateway.port);
});

afterAll(async () => {
  h1[Symbol.dispose]();
  h2[Symbol.dispose]();
  await gateway[Symbol.asyncDispose]();
});

function post(body: unknown, call: Call = {}): Promise<Answer> {
  const text = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  return callH1(gateway.port, "/events", { headers: JSON_TYPE, body: text, ...call });
}

async function lastEvent() {
  return (await gateway.events()).at(-1);
}

/** The same bad call over both protocols, each followed by a good one on its own connection. */
async function refusedOnBoth(call: Call): Promise<Answer> {
  const before = (await gateway.stored()).length;
  const good = { headers: JSON_TYPE, body: JSON.stringify(GOOD) };
  const answers: Answer[] = [];
  for (const connection of [h1, h2]) {
    answers.push(await connection.call("/events", call));
    expect((await connection.call("/events", good)).status).toBe(200);
  }
  expect((await gateway.stored()).length).toBe(before + 2);
  expect(await gateway.metric("millrace_gateway_in_flight_bytes")).toBe(0);
  const [first, second] = answers as [Answer, Answer];
  expect(second.status).toBe(first.status);
  expect(second.text).toBe(first.text);
  return first;
}

describe("an accepted event", () => {
  it("is answered 200 accepted and is on the log field by field", async () => {
    const answer = await post({ ...GOOD, user_id: "u123", value: 1, properties: { a: 1 }, extra: [true] });
    expect([answer.status, answer.text]).toEqual([200, '{"status":"accepted"}']);
    const event = await lastEvent();
    expect(event).toMatchObject({
      event: "page_view",
      source: "landing",
      distinctId: "u123",
      value: 1,
      timeUs: BigInt(Date.parse(GOOD.created_at)) * 1000n,
      receivedUs: BigInt(NOW) * 1000n,
      idFromCaller: false,
      originalTime: "",
    });
    expect(Buffer.from(event?.propertiesJson ?? []).toString()).toBe('{"a":1,"extra":[true]}');
  });

  it("may carry its own id", async () => {
    expect((await post({ ...GOOD, id: "0192f0c1-2345-7abc-8def-0123456789ab" })).status).toBe(200);
    expect(await lastEvent()).toMatchObject({ idFromCaller: true });
  });

  it("keeps properties and unknown fields as they were sent", async () => {
    const body = `{
  "event_type": "e", "source": "s",
  "created_at": "2026-03-27T12:00:00Z",
  "n": 9007199254740993, "__proto__": { "d" : 1.10 },
  "properties": {
    "long":\t12345678901234567890,
    "text": "\\ud83d\\ude00\\/"
  },
  "list": [ 1e400, -0 ]
}`;
    expect((await post(body)).status).toBe(200);
    expect(Buffer.from((await lastEvent())?.propertiesJson ?? []).toString()).toBe(
      '{\n    "long":\t12345678901234567890,\n    "text": "\\ud83d\\ude00\\/"\n  ' +
        ',"n":9007199254740993,"__proto__":{ "d" : 1.10 },"list":[ 1e400, -0 ]}',
    );
  });

  it.each([
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
  ])("has an id of its own where %s says that there is none", async (id) => {
    for (let i = 0; i < 2; i++) expect((await post({ ...GOOD, id })).status).toBe(200);
    const [first, second] = (await gateway.events()).slice(-2);
    expect([first?.idFromCaller, second?.idFromCaller]).toEqual([false, false]);
    expect(Buffer.from(first?.id ?? []).equals(second?.id ?? Buffer.alloc(0))).toBe(false);
  });

  it("keeps a property that an unknown field is named like", async () => {
    await post({ ...GOOD, properties: { a: "property" }, a: "field" });
    expect(Buffer.from((await lastEvent())?.propertiesJson ?? []).toString()).toBe('{"a":"property"}');
  });

  it("keeps all that is said of a person, beside the properties and among them", async () => {
    await post({ ...GOOD, properties: { $set: { a: 1 }, $set_once: { c: 3 } }, $set: { b: 2 }, $set_once: { d: 4 } });
    const { $set, $set_once } = JSON.parse(
      Buffer.from((await lastEvent())?.propertiesJson ?? []).toString(),
    ) as object & Record<string, unknown>;
    expect([$set, $set_once]).toEqual([
      { a: 1, b: 2 },
      { c: 3, d: 4 },
    ]);
  });

  it.each([
    ["year 0", "0000-01-01T00:00:00Z", 0],
    ["year 9999", "9999-12-31T23:59:59Z", NOW + 86_400_000],
  ])("of %s is moved into the range and keeps what was sent", async (_case, sent, storedMs) => {
    expect((await post({ ...GOOD, created_at: sent })).status).toBe(200);
    expect(await lastEvent()).toMatchObject({ timeUs: BigInt(storedMs) * 1000n, originalTime: sent });
  });

  it("with unpaired surrogates is stored with U+FFFD in their place", async () => {
    expect(
      (await post('{"event_type":"a\\ud800","source":"s","created_at":"2026-03-27T12:00:00Z","x":"\\udfff"}')).status,
    ).toBe(200);
    const event = await lastEvent();
    expect(event?.event).toBe("a\ufffd");
    expect(Buffer.from(event?.propertiesJson ?? []).toString()).toBe('{"x":"\ufffd"}');
  });

  it.each(["application/json; charset=utf-8", "Application/JSON"])("may say %s", async (type) => {
    expect((await post(GOOD, { headers: { "content-type": type } })).status).toBe(200);
  });

  it.each([
    ["gzip", zlib.gzipSync],
    ["deflate", zlib.deflateSync],
    ["deflate", zlib.deflateRawSync],
    ["br", zlib.brotliCompressSync],
    ["zstd", zlib.zstdCompressSync],
  ] as const)("may be compressed: %s", async (encoding, compress) => {
    const body = compress(Buffer.from(JSON.stringify({ ...GOOD, pad: "x".repeat(5000) })));
    expect((await post(body, { headers: { ...JSON_TYPE, "content-encoding": encoding } })).status).toBe(200);
  });
});

describe("a refused event", () => {
  const { event_type: _event, ...noEvent } = GOOD;
  const { source: _source, ...noSource } = GOOD;
  const { created_at: _time, ...noTime } = GOOD;

  it.each([
    ["no event_type", noEvent, "event_type"],
    ["no source", noSource, "source"],
    ["no created_at", noTime, "created_at"],
    ["a blank event_type", { ...GOOD, event_type: " " }, "event_type"],
    ["a blank source", { ...GOOD, source: "\t" }, "source"],
    ["a number as event_type", { ...GOOD, event_type: 1 }, "event_type"],
    ["null as source", { ...GOOD, source: null }, "source"],
    ["an object as user_id", { ...GOOD, user_id: {} }, "user_id"],
    ["text as value", { ...GOOD, value: "1" }, "value"],
    ["a boolean as value", { ...GOOD, value: true }, "value"],
    ["a number as created_at", { ...GOOD, created_at: 1774612800 }, "created_at"],
    ["a date without offset", { ...GOOD, created_at: "2026-03-27T12:00:00" }, "created_at"],
    ["month 13", { ...GOOD, created_at: "2026-13-01T00:00:00Z" }, "created_at"],
    ["an id that is no UUID", { ...GOOD, id: "1" }, "id"],
    ["properties that are an array", { ...GOOD, properties: [] }, "properties"],
    ["properties that are null", { ...GOOD, properties: null }, "properties"],
    [
      "properties nested 300 deep",
      { ...GOOD, properties: JSON.parse(`${'{"a":'.repeat(300)}1${"}".repeat(300)}`) as unknown },
      "properties.a.a.a",
    ],
    ["an infinite value", JSON.stringify(GOOD).replace("}", ',"value":1e999}'), "value"],
    ["NaN", JSON.stringify(GOOD).replace("}", ',"value":NaN}'), "body"],
    ["a field twice", JSON.stringify(GOOD).replace("}", ',"source":"b"}'), "source"],
    ["an unknown field twice", JSON.stringify(GOOD).replace("}", ',"a":1,"\\u0061":2}'), "a"],
    ["a property twice", JSON.stringify(GOOD).replace("}", ',"properties":{"b":{"c":1,"c":1}}}'), "properties.b.c"],
    [
      "unknown fields nested 300 deep",
      { ...GOOD, x: JSON.parse("[".repeat(300) + "]".repeat(300)) as unknown },
      "x.0.0.0",
    ],
    ["a byte order mark", `\ufeff${JSON.stringify(GOOD)}`, "body"],
    ["UTF-16", Buffer.from(JSON.stringify(GOOD), "utf16le"), "body"],
    ["an array", [GOOD], "body"],
    ["a string", '"a"', "body"],
    ["null", "null", "body"],
    ["data after the object", `${JSON.stringify(GOOD)}{}`, "body"],
    ["broken JSON", '{"event_type":', "body"],
    ["nothing", "", "body"],
    ["bytes that are no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "body"],
  ])("with %s is answered 400 naming the field", async (_case, sent, field) => {
    const body = typeof sent === "string" || Buffer.isBuffer(sent) ? sent : JSON.stringify(sent);
    const answer = await refusedOnBoth({ headers: JSON_TYPE, body });
    expect([answer.status, answer.headers["content-type"]]).toEqual([400, "application/json; charset=utf-8"]);
    expect((JSON.parse(answer.text) as { error: string }).error.startsWith(`${field}: `)).toBe(true);
  });

  it.each([
    ["no content type", {}],
    ["text", { "content-type": "text/plain" }],
    ["another charset", { "content-type": "application/json; charset=iso-8859-1" }],
    ["a form", { "content-type": "application/x-www-form-urlencoded" }],
    ["an unknown encoding", { ...JSON_TYPE, "content-encoding": "compress" }],
    ["two encodings, one of them unknown", { ...JSON_TYPE, "content-encoding": "gzip, compress" }],
    ["an encoding named like an object's method", { ...JSON_TYPE, "content-encoding": "toString" }],
  ])("with %s is answered 415", async (_case, headers) => {
    const answer = await refusedOnBoth({ headers: headers as Record<string, string>, body: JSON.stringify(GOOD) });
    expect(answer.status).toBe(415);
  });

  it.each(["GET", "PUT", "DELETE", "PATCH"])("by %s is answered 405 with Allow", async (method) => {
    const answer = await refusedOnBoth({ method });
    expect([answer.status, answer.headers.allow]).toEqual([405, "POST"]);
  });

  it("by HEAD is answered 405 without a body", async () => {
    const answer = await refusedOnBoth({ method: "HEAD" });
    expect([answer.status, answer.headers.allow, answer.text]).toEqual([405, "POST", ""]);
  });

  it.each([
    ["declared", false],
    ["chunked", true],
  ])("larger than the body limit, %s, is answered 413", async (_case, chunked) => {
    const body = JSON.stringify({ ...GOOD, pad: "x".repeat(5 * KIB_LIMIT) });
    for (let i = 0; i < 6; i++) expect((await refusedOnBoth({ headers: JSON_TYPE, body, chunked })).status).toBe(413);
  });

  it("larger than one event may be is answered 413 naming the properties", async () => {
    const answer = await refusedOnBoth({
      headers: JSON_TYPE,
      body: JSON.stringify({ ...GOOD, pad: "x".repeat(950_000) }),
    });
    expect(answer.status).toBe(413);
    expect(answer.text).toContain("properties: has 950010 bytes");
  });

  it("that unpacks to 50 MB is answered 413 without being unpacked", async () => {
    const bomb = zlib.gzipSync(Buffer.alloc(50 * KIB_LIMIT, 0x20));
    const answer = await refusedOnBoth({ headers: { ...JSON_TYPE, "content-encoding": "gzip" }, body: bomb });
    expect(answer.status).toBe(413);
  });

  const gzipped = zlib.gzipSync(Buffer.from(JSON.stringify(GOOD)));
  it.each([
    ["gzip", "truncated", gzipped.subarray(0, gzipped.length - 10)],
    ["gzip", "junk", Buffer.from("junk")],
    ["deflate", "junk", Buffer.from("junk")],
    ["deflate", "junk with zlib's first byte", Buffer.from("xjunk")],
    ["br", "junk", Buffer.from("junk")],
    ["zstd", "junk", Buffer.from("junk")],
  ])("in %s that is %s is answered 400", async (encoding, _case, body) => {
    const answer = await refusedOnBoth({ headers: { ...JSON_TYPE, "content-encoding": encoding }, body });
    expect([answer.status, answer.text.startsWith(`{"error":"body: is not complete ${encoding} data`)]).toEqual([
      400,
      true,
    ]);
  });
});

it("an unknown path is answered 404 with the paths there are", async () => {
  const answer = await callH1(gateway.port, "/event", { headers: JSON_TYPE, body: "{}" });
  expect(answer.status).toBe(404);
  expect(answer.text).toContain("POST /events");
});
