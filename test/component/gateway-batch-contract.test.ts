// Statuses, bodies and the order of checks of the product-analytics contract, sections 1.2 to 1.5.
import zlib from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVENT, JSON_TYPE, jsonOf, KEY, ORIGIN, postBatch } from "../kit/batch-calls.ts";
import { startContractGateway } from "../kit/contract-gateway.ts";
import { type Answer, type Call, connectH1, connectH2, exchangeRaw } from "../kit/http-calls.ts";

const MAX_BYTES = 4096;
const MAX_EVENTS = 5;
const OTHER_ORIGIN = { origin: "https://other.example" };
const GOOD = JSON.stringify({ api_key: KEY, batch: [EVENT] });
const TOO_LARGE = "x".repeat(MAX_BYTES + 1);
const gzip = (text: string) => zlib.gzipSync(Buffer.from(text));
const batchOf = (events: number, envelope: object = { api_key: KEY }) =>
  JSON.stringify({ ...envelope, batch: Array.from({ length: events }, () => EVENT) });

let gateway: Awaited<ReturnType<typeof startContractGateway>>;
beforeAll(async () => {
  gateway = await startContractGateway({
    publicApiKeys: [KEY],
    allowedOrigins: [ORIGIN],
    maxBatchBytes: MAX_BYTES,
    maxEventsPerBatch: MAX_EVENTS,
  });
});
afterAll(() => gateway[Symbol.asyncDispose]());

/** By a client that would keep the connection, so that the answer tells whether the gateway does. */
async function post(call: Call, path = "/batch/"): Promise<Answer> {
  using connection = connectH1(gateway.port);
  return await connection.call(path, { ...call, headers: call.headers ?? JSON_TYPE });
}

/** Nothing is stored, the body has the shape of an error, and the text begins with the field. */
async function expectRefused(call: Call, status: number, field: string, path = "/batch/"): Promise<void> {
  const before = (await gateway.stored()).length;
  const answer = await post(call, path);
  expect([answer.status, answer.headers["content-type"]]).toEqual([status, "application/json; charset=utf-8"]);
  const body = jsonOf(answer) as { status: string; error: string };
  expect(Object.keys(body)).toEqual(["status", "error"]);
  expect(body.status).toBe("error");
  expect(body.error.slice(0, field.length + 2)).toBe(`${field}: `);
  expect(answer.headers.vary).toBe("Origin");
  expect((await gateway.stored()).length).toBe(before);
}

describe("success", () => {
  it("is 200 with the three members in order, over HTTP/1.1 and HTTP/2", async () => {
    for (const connect of [connectH1, connectH2]) {
      using connection = connect(gateway.port);
      const body = JSON.stringify({ api_key: KEY, batch: [EVENT, { event: "e" }, EVENT] });
      const answer = await connection.call("/batch/?_=1&ver=0.1.0&beacon=1", { headers: JSON_TYPE, body });
      expect([answer.status, answer.text]).toEqual([200, '{"status":"ok","ingested":2,"dropped":1}']);
      expect(answer.headers["content-type"]).toBe("application/json; charset=utf-8");
    }
  });

  it.each([
    ["its charset", { "content-type": "application/json; charset=UTF-8" }, GOOD],
    ["its charset in quotes", { "content-type": 'application/json;charset="utf-8"' }, GOOD],
    ["another case", { "content-type": "Application/JSON" }, GOOD],
    ["a byte order mark", JSON_TYPE, `\ufeff${GOOD}`],
    ["gzip", { ...JSON_TYPE, "content-encoding": "gzip" }, gzip(GOOD)],
    ["GZIP", { ...JSON_TYPE, "content-encoding": "GZIP" }, gzip(GOOD)],
    [
      "gzip in two members",
      { ...JSON_TYPE, "content-encoding": "gzip" },
      Buffer.concat([gzip(GOOD.slice(0, 9)), gzip(GOOD.slice(9))]),
    ],
    ["identity", { ...JSON_TYPE, "content-encoding": "identity" }, GOOD],
    ["br", { ...JSON_TYPE, "content-encoding": "br" }, zlib.brotliCompressSync(GOOD)],
    ["zstd", { ...JSON_TYPE, "content-encoding": "zstd" }, zlib.zstdCompressSync(GOOD)],
    ["deflate", { ...JSON_TYPE, "content-encoding": "deflate" }, zlib.deflateSync(GOOD)],
    ["unknown members of the envelope", JSON_TYPE, JSON.stringify({ api_key: KEY, batch: [EVENT], token: 5, x: {} })],
    [
      "historical_migration",
      JSON_TYPE,
      JSON.stringify({ api_key: KEY, batch: [{ ...EVENT, uuid: 5, type: null }], historical_migration: true }),
    ],
    ["exactly the bytes allowed", JSON_TYPE, GOOD.padEnd(MAX_BYTES)],
    ["exactly the bytes allowed, unpacked", { ...JSON_TYPE, "content-encoding": "gzip" }, gzip(GOOD.padEnd(MAX_BYTES))],
    ["exactly the events allowed", JSON_TYPE, batchOf(MAX_EVENTS)],
    [
      "keys named __proto__ and constructor",
      JSON_TYPE,
      GOOD.replace("{", '{"__proto__":{"constructor":{"prototype":1}},'),
    ],
    ["a `__proto__` that is no key", JSON_TYPE, GOOD.replace('"e"', '"__proto__ \\u0041"')],
    ["a constructor without prototype", JSON_TYPE, GOOD.replace('"d"', '"d","properties":{"constructor":{"proto":1}}')],
  ])("with %s", async (_case, headers, body) => {
    const answer = await post({ headers, body });
    expect([answer.status, answer.text.startsWith('{"status":"ok","ingested":')]).toEqual([200, true]);
  });

  it("without any event to store is 200 as well, and appends nothing", async () => {
    const counts = async () => [(await gateway.stored()).length, gateway.inProcess?.appends.length];
    const before = await counts();
    const answer = await postBatch(gateway.port, [{}, { event: " ", distinct_id: "d" }]);
    expect([answer.status, answer.text]).toEqual([200, '{"status":"ok","ingested":0,"dropped":2}']);
    expect(await counts()).toEqual(before);
  });
});

describe("a body of the wrong form is 400", () => {
  const event = (change: object) => JSON.stringify({ api_key: KEY, batch: [{ ...EVENT, ...change }] });
  it.each([
    ["a single event", JSON.stringify(EVENT), "batch"],
    ["an array", `[${GOOD}]`, "body"],
    ["null", "null", "body"],
    ["a number", "5", "body"],
    ["batch that is an object", '{"batch":{}}', "batch"],
    ["an empty batch", '{"batch":[]}', "batch"],
    ["an event that is null", '{"batch":[null]}', "batch[0]"],
    ["an event that is an array", '{"batch":[[]]}', "batch[0]"],
    ["an event that is a string", '{"batch":["e"]}', "batch[0]"],
    ["api_key: null", '{"api_key":null,"batch":[{}]}', "api_key"],
    ["historical_migration: null", '{"historical_migration":null,"batch":[{}]}', "historical_migration"],
    ["historical_migration: text", '{"historical_migration":"yes","batch":[{}]}', "historical_migration"],
    ["event: null", event({ event: null }), "batch[0].event"],
    ["event: a number", event({ event: 5 }), "batch[0].event"],
    ["distinct_id: null", event({ distinct_id: null }), "batch[0].distinct_id"],
    ["distinct_id: a number", event({ distinct_id: 5 }), "batch[0].distinct_id"],
    ["an event's api_key: a number", event({ api_key: 5 }), "batch[0].api_key"],
    ["timestamp: a number", event({ timestamp: 1_700_000_000 }), "batch[0].timestamp"],
    ["timestamp: null", event({ timestamp: null }), "batch[0].timestamp"],
    ["properties: null", event({ properties: null }), "batch[0].properties"],
    ["properties: an array", event({ properties: [] }), "batch[0].properties"],
    ["a wrong type in an event that would be dropped", '{"batch":[{"event":1}]}', "batch[0].event"],
    ["a member of the envelope twice", `{"api_key":"${KEY}",${GOOD.slice(1)}`, "api_key"],
    ["two keys", JSON.stringify({ api_key: KEY, batch: [{ ...EVENT, api_key: "k2" }] }), "api_key"],
    ["two keys, one of a dropped event", '{"api_key":"a","batch":[{"api_key":"b"}]}', "api_key"],
    ["an invalid time", event({ timestamp: "soon" }), "batch[0].timestamp"],
    ["a blank time", event({ timestamp: " " }), "batch[0].timestamp"],
    ["digits as time", event({ timestamp: "1700000000" }), "batch[0].timestamp"],
    ["hour 25", event({ timestamp: "2026-03-27T25:00:00Z" }), "batch[0].timestamp"],
  ])("%s", async (_case, body, field) => {
    await expectRefused({ body }, 400, field);
  });

  it.each([
    ["broken JSON", "{nope", "body"],
    ["blanks", "  \n ", "body"],
    ["nothing", "", "body"],
    ["only a byte order mark", "\ufeff", "body"],
    ["data after the object", `${GOOD}{}`, "body"],
    ["gzip without its header", gzip(GOOD), "body"],
    ["bytes that are not UTF-8", Buffer.from(GOOD.replace('"d"', '"\xff"'), "latin1"), "body"],
    ["NaN outside the events", `{"x":NaN,${GOOD.slice(1)}`, "body"],
    ["a number with a leading zero", GOOD.replace('"d"', '"d","x":01'), "body"],
  ])("%s, and the connection ends", async (_case, body, field) => {
    await expectRefused({ body }, 400, field);
    expect((await post({ body })).headers.connection).toBe("close");
  });

  it.each([
    ["gzip of nothing", gzip("")],
    ["what is no gzip", Buffer.from("junk")],
    ["gzip with junk behind it", Buffer.concat([gzip(GOOD), Buffer.from("junk")])],
    ["gzip cut off", gzip(GOOD).subarray(0, 30)],
  ])("%s", async (_case, body) => {
    await expectRefused({ headers: { ...JSON_TYPE, "content-encoding": "gzip" }, body }, 400, "body");
  });
});

it.each([
  ["no batch", "{}", "batch: is required"],
  ["no array", '{"batch":{}}', "batch: must be an array of events, not an object"],
  ["no object", "[]", "body: must be an object with a batch array, not an array"],
])("a body with %s is told what to send", async (_case, body, error) => {
  const answer = await post({ body });
  expect([answer.status, JSON.parse(answer.text)]).toEqual([
    400,
    { status: "error", error: `${error}; send {"batch": [...]}` },
  ]);
});

describe("too much is 413", () => {
  it.each([
    ["bytes declared", { body: TOO_LARGE }],
    ["bytes without a declared length", { body: TOO_LARGE, chunked: true }],
    ["bytes unpacked", { headers: { ...JSON_TYPE, "content-encoding": "gzip" }, body: gzip(TOO_LARGE) }],
    ["bytes declared, of text", { headers: { "content-type": "text/plain" }, body: TOO_LARGE }],
  ])("%s, and the connection ends", async (_case, call) => {
    await expectRefused(call, 413, "body");
    expect((await post(call)).headers.connection).toBe("close");
  });

  it("events, those counted that would be dropped, on a connection that goes on", async () => {
    const body = JSON.stringify({ api_key: KEY, batch: Array.from({ length: MAX_EVENTS + 1 }, () => ({})) });
    await expectRefused({ body }, 413, "batch");
    expect((await post({ body })).headers.connection).toBe("keep-alive");
  });

  it("a declared length beyond the limit, before a byte of it has come", async () => {
    const head = `POST /batch/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${MAX_BYTES + 1}\r\n\r\n`;
    expect(await exchangeRaw(gateway.port, head)).toMatch(/^HTTP\/1\.1 413 /);
  });
});

describe("another form of content is 415, on a connection that goes on", () => {
  it.each([
    ["no content type", {}],
    ["an empty content type", { "content-type": "" }],
    ["a form", { "content-type": "application/x-www-form-urlencoded" }],
    ["multipart", { "content-type": "multipart/form-data; boundary=x" }],
    ["xml", { "content-type": "application/xml" }],
    ["a relative of JSON", { "content-type": "application/vnd.api+json" }],
    ["another charset", { "content-type": "application/json; charset=latin1" }],
    ["UTF-16", { "content-type": "application/json;charset=utf-16" }],
    ["text", { "content-type": "text/plain" }],
    ["text with a charset", { "content-type": "text/plain;charset=UTF-8" }],
  ])("%s", async (_case, headers) => {
    await expectRefused({ headers, body: GOOD }, 415, "content-type");
    expect((await post({ headers, body: GOOD })).headers.connection).toBe("keep-alive");
  });

  it("no content type and no body", async () => {
    await expectRefused({ headers: {}, body: "" }, 415, "content-type");
  });

  it.each(["", ",", "compress", "gzip, compress", "gzip, gzip, gzip, gzip", "timestamp", "toString"])(
    "content-encoding: %j",
    async (encoding) => {
      await expectRefused(
        { headers: { ...JSON_TYPE, "content-encoding": encoding }, body: GOOD },
        415,
        "content-encoding",
      );
    },
  );

  it.each(["?compression=gzip-js", "?compression", "?a=1&compression="])("the query %s", async (query) => {
    await expectRefused({ body: GOOD }, 415, "compression", `/batch/${query}`);
  });

  it("compression as part of another query key is no reason", async () => {
    expect((await post({ body: GOOD }, "/batch/?xcompression=1")).status).toBe(200);
  });
});

describe("of several faults the first in order is told", () => {
  const bad = { ...JSON_TYPE, ...OTHER_ORIGIN };
  it.each([
    [
      "encoding before content type",
      { headers: { "content-type": "text/x", "content-encoding": "x" } },
      415,
      "content-encoding",
    ],
    ["content type before bytes", { headers: { "content-type": "text/x" }, body: TOO_LARGE }, 415, "content-type"],
    ["bytes before text/plain", { headers: { "content-type": "text/plain" }, body: TOO_LARGE }, 413, "body"],
    ["bytes before the origin", { headers: bad, body: TOO_LARGE }, 413, "body"],
    [
      "text/plain before the origin",
      { headers: { ...OTHER_ORIGIN, "content-type": "text/plain" }, body: "x" },
      415,
      "content-type",
    ],
    ["an empty batch before the origin", { headers: bad, body: '{"batch":[]}' }, 400, "batch"],
    ["types before mixed keys", { body: '{"api_key":"a","batch":[{"api_key":"b","event":1}]}' }, 400, "batch[0].event"],
    [
      "mixed keys before the origin",
      { headers: bad, body: '{"api_key":"a","batch":[{"api_key":"b"}]}' },
      400,
      "api_key",
    ],
    ["the origin before the key", { headers: bad, body: batchOf(1, { api_key: "nope" }) }, 403, "origin"],
    ["the key before the count", { body: batchOf(MAX_EVENTS + 1, { api_key: "nope" }) }, 401, "api_key"],
    [
      "the count before times",
      { body: JSON.stringify({ api_key: KEY, batch: Array(MAX_EVENTS + 1).fill({ ...EVENT, timestamp: "x" }) }) },
      413,
      "batch",
    ],
  ] as const)("%s", async (_case, call, status, field) => {
    await expectRefused({ body: GOOD, ...call }, status, field);
  });

  it("a time is not read in an event that is dropped", async () => {
    const answer = await postBatch(gateway.port, [{ event: "e", timestamp: "soon" }]);
    expect([answer.status, answer.text]).toEqual([200, '{"status":"ok","ingested":0,"dropped":1}']);
  });
});
