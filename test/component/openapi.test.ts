// /openapi.json and the gateway say the same: every documented answer is given, and every route is documented.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";
import { LogUnavailableError } from "#lib/eventlog/log.ts";
import { makeReplay } from "#lib/events/replay-record.ts";
import { encodeReplayRequest } from "#lib/events/replay-request.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createHealth, serveHealth } from "#lib/http/health.ts";
import { OPENAPI } from "../../services/gateway/openapi.ts";
import { WIRES } from "../../services/gateway/wire-table.ts";
import { EVENT, JSON_TYPE, KEY, ORIGIN, SECRET } from "../kit/batch-calls.ts";
import { eventRecord } from "../kit/consumer.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { type Answer, type Call, callH1 } from "../kit/http-calls.ts";
import { resolveRef, type Schema, schemaFaults } from "../kit/json-schema.ts";

const MAX_BYTES = 2048;

/** The gateway of most calls, one that has had its fill of events, and one that is not ready. */
let gateway: TestGateway;
let tired: TestGateway;
let unready: { port: number } & AsyncDisposable;

beforeAll(async () => {
  const keys = { publicApiKeys: [KEY], secretApiKeys: [SECRET], allowedOrigins: [ORIGIN] };
  gateway = await startTestGateway({ ...keys, maxBatchBytes: MAX_BYTES, maxEventsPerBatch: 3, storedTimeout: 50 });
  tired = await startTestGateway({ ...keys, rateLimitEvents: 1, rateLimitBurst: 1 });
  // It owes an hour: however slow the machine, it has not recovered by the time it is asked.
  const many = JSON.stringify({ events: Array.from({ length: 3_600 }, () => ({ event: "e" })) });
  await callH1(tired.port, "/millrace.events.v1.EventService/Publish", { headers: AUTHORIZED, body: many });
  const checks = [{ name: "log", check: () => Promise.reject(new Error("is away")) }];
  const health = createHealth({ checks, registry: new Registry() });
  unready = await serveHealth({
    host: "127.0.0.1",
    port: 0,
    setting: "PORT",
    health,
    logger: pino({ level: "silent" }),
  });
});
afterAll(async () => {
  for (const each of [gateway, tired, unready]) await each[Symbol.asyncDispose]();
});

interface Sample {
  call: Call;
  /** Port of another gateway than that of most calls. */
  port?: () => number;
  query?: string;
  /** The event log takes nothing meanwhile. */
  away?: boolean;
}

const AUTHORIZED = { ...JSON_TYPE, authorization: `Bearer ${KEY}` };
const TOO_LARGE = JSON.stringify({ filler: "x".repeat(MAX_BYTES) });
const SINGLE = { event_type: "e", source: "s", created_at: "2026-03-27T12:00:00Z" };

const send = (headers: Record<string, string>, value: unknown, more: Partial<Sample> = {}): Sample => {
  return { call: { headers, body: typeof value === "string" ? value : JSON.stringify(value) }, ...more };
};
const get = (more: Partial<Sample> = {}): Sample => ({ call: { method: "GET" }, ...more });
const events = (more: Partial<Sample> = {}) => send(AUTHORIZED, SINGLE, more);
const batch = (more: Partial<Sample> = {}) => send(JSON_TYPE, { api_key: KEY, batch: [EVENT] }, more);
const publish = (value: unknown, more: Partial<Sample> = {}) => send(AUTHORIZED, value, more);
const capture = (more: Partial<Sample> = {}, value: object = EVENT) =>
  send(JSON_TYPE, { api_key: KEY, ...value }, more);
const V1_EVENT = { ...EVENT, uuid: "0192f0c1-2345-7abc-8def-0123456789ab", options: {}, properties: {} };
const captureV1 = (value: unknown, more: Partial<Sample> = {}) => send(AUTHORIZED, value, more);
const SECRET_HEADERS = { ...JSON_TYPE, "x-api-key": SECRET };
const NO_RECORDS = encodeReplayRequest([], EVENTS_TOPIC);

function oneRecord(): string {
  const { key, value } = eventRecord();
  const dead = { epoch: "e", topic: "t", partition: 0, offset: 0, appendTimeMs: Date.now(), key, value };
  const replay = makeReplay(dead, { property: new Map() });
  if (!("value" in replay)) throw new Error(replay.message);
  return encodeReplayRequest([{ key, value: replay.value }], EVENTS_TOPIC);
}
const isTired = { port: () => tired.port };

const MESSAGE = { type: "track", event: "e", userId: "u" };
const segment = (value: unknown, more: Partial<Sample> = {}) => send(AUTHORIZED, value, more);
const oneMessage = {
  200: segment(MESSAGE),
  400: [segment("{"), segment({ ...MESSAGE, userId: "" })],
  401: send(JSON_TYPE, MESSAGE),
  403: send({ ...JSON_TYPE, origin: "https://other.example" }, { ...MESSAGE, writeKey: KEY }),
  405: get(),
  413: segment(TOO_LARGE),
  415: send({ "content-type": "text/xml" }, "x"),
  429: segment(MESSAGE, isTired),
  503: segment(MESSAGE, { away: true }),
};
const CLOUDEVENT = { specversion: "1.0", id: "1", source: "/s", type: "t" };
const cloudEvent = (value: unknown, more: Partial<Sample> = {}) => send(AUTHORIZED, value, more);
const lines = (value: string, more: Partial<Sample> = {}) => send(AUTHORIZED, value, more);

/** How each documented answer comes about, by operation and status. */
const SAMPLES: Record<string, Record<string, Sample | Sample[]>> = {
  postEvent: {
    200: events(),
    204: send({ ...AUTHORIZED, "content-type": "application/cloudevents+json" }, CLOUDEVENT),
    400: [send(AUTHORIZED, "{"), send(AUTHORIZED, { ...SINGLE, value: "1" })],
    401: send(JSON_TYPE, SINGLE),
    413: send(AUTHORIZED, TOO_LARGE),
    415: send({ ...AUTHORIZED, "content-type": "text/plain" }, SINGLE),
    429: events(isTired),
    503: events({ away: true }),
  },
  postBatch: {
    200: [batch(), send(JSON_TYPE, { api_key: KEY, batch: [EVENT, { event: "nobody" }] })],
    400: [send(JSON_TYPE, "{"), send(JSON_TYPE, { api_key: KEY, batch: [] })],
    401: send(JSON_TYPE, { batch: [EVENT] }),
    403: send({ ...JSON_TYPE, origin: "https://other.example" }, { batch: [EVENT] }),
    413: [send(JSON_TYPE, TOO_LARGE), send(JSON_TYPE, { api_key: KEY, batch: [EVENT, EVENT, EVENT, EVENT] })],
    415: send({ "content-type": "text/plain" }, "x"),
    429: batch(isTired),
    503: batch({ away: true }),
  },
  publish: {
    200: [publish({ events: [{ event: "e" }] }), publish({ events: [{ event: "e" }, { event: " " }, { event: "" }] })],
    400: [publish({ events: [] }), publish({ evnts: [] }), publish("{")],
    401: send(JSON_TYPE, { events: [{ event: "e" }] }),
    415: send({ ...AUTHORIZED, "content-type": "text/plain" }, "x"),
    429: [
      publish({ events: [{ event: "e" }] }, isTired),
      publish({ events: Array(4).fill({ event: "e" }) }),
      publish(TOO_LARGE),
    ],
    503: publish({ events: [{ event: "e" }] }, { away: true }),
  },
  grpcHealthCheck: {
    200: [publish({}), publish({ service: EventService.typeName })],
    400: [publish("{"), publish({ name: "x" })],
    404: publish({ service: "x" }),
    415: send({ ...AUTHORIZED, "content-type": "text/plain" }, "x"),
  },
  postHogCapture: {
    200: [capture(), capture({}, { batch: [EVENT, {}] })],
    400: [send(JSON_TYPE, "{"), capture({}, { batch: [{}] }), capture({}, { batch: [] })],
    401: send(JSON_TYPE, EVENT),
    403: send({ ...JSON_TYPE, origin: "https://other.example" }, EVENT),
    405: get(),
    413: [send(JSON_TYPE, TOO_LARGE), capture({}, { batch: [EVENT, EVENT, EVENT, EVENT] })],
    415: [send({ "content-type": "text/xml" }, "x"), capture({ query: "?compression=lz64" })],
    429: capture(isTired),
    503: capture({ away: true }),
  },
  postHogAnalyticsEvents: {
    200: [captureV1({ batch: [V1_EVENT] }), captureV1({ batch: [V1_EVENT, { uuid: "x" }] })],
    400: [captureV1("{"), captureV1({ batch: [] })],
    401: send(JSON_TYPE, { batch: [V1_EVENT] }),
    405: get(),
    413: [captureV1(TOO_LARGE), captureV1({ batch: [V1_EVENT, V1_EVENT, V1_EVENT, V1_EVENT] })],
    415: send({ ...AUTHORIZED, "content-type": "text/plain" }, "x"),
    429: captureV1({ batch: [V1_EVENT] }, isTired),
  },
  postHogFlags: {
    200: send(JSON_TYPE, { token: KEY, distinct_id: "d" }),
    400: send(JSON_TYPE, "{"),
    401: send(JSON_TYPE, { token: "nope" }),
    403: send({ ...JSON_TYPE, origin: "https://other.example" }, { token: KEY }),
    405: get(),
    413: send(JSON_TYPE, TOO_LARGE),
    415: send({ "content-type": "text/xml" }, "x"),
  },
  postHogConfig: { 200: get() },
  postHogConfigScript: { 200: get() },
  postHogReplay: { 200: send({}, "not read"), 405: get() },
  segmentBatch: {
    200: [segment({ batch: [MESSAGE] }), segment({ batch: [MESSAGE, { type: "page" }] }), segment({ batch: [{}] })],
    400: [segment("{"), segment({})],
    401: send(JSON_TYPE, { batch: [MESSAGE] }),
    403: send({ ...JSON_TYPE, origin: "https://other.example" }, { batch: [MESSAGE], writeKey: KEY }),
    405: get(),
    413: [segment(TOO_LARGE), segment({ batch: Array(4).fill(MESSAGE) })],
    415: send({ "content-type": "text/xml" }, "x"),
    429: segment({ batch: [MESSAGE] }, isTired),
    503: segment({ batch: [MESSAGE] }, { away: true }),
  },
  segmentMessage: oneMessage,
  jitsuMessage: oneMessage,
  segmentSettings: { 200: get() },
  rudderSource: { 200: get() },
  cloudEvents: {
    200: cloudEvent([CLOUDEVENT, { ...CLOUDEVENT, id: "" }]),
    204: cloudEvent(CLOUDEVENT),
    400: [cloudEvent("{"), cloudEvent({ ...CLOUDEVENT, id: "" })],
    401: send(JSON_TYPE, CLOUDEVENT),
    405: get(),
    413: [cloudEvent(TOO_LARGE), cloudEvent(Array(4).fill(CLOUDEVENT))],
    415: send({ ...AUTHORIZED, "content-encoding": "lzma" }, CLOUDEVENT),
    429: cloudEvent(CLOUDEVENT, isTired),
    503: cloudEvent(CLOUDEVENT, { away: true }),
  },
  ndjsonEvents: {
    200: lines("5", { query: "?wait=true" }),
    202: [lines('{"event":"e"}\nnot json'), lines('{"event":"e"}', { query: "?wait=true" })],
    400: send({ ...AUTHORIZED, "content-encoding": "gzip" }, "no gzip"),
    401: send(JSON_TYPE, "{}"),
    405: get(),
    413: [lines(TOO_LARGE), lines("{}\n".repeat(4))],
    415: send({ ...AUTHORIZED, "content-encoding": "lzma" }, "{}"),
    429: lines('{"event":"e"}', isTired),
    503: lines('{"event":"e"}', { away: true }),
  },
  otlp: { 404: send(JSON_TYPE, {}) },
  remoteWrite: { 404: send(JSON_TYPE, {}) },
  influx: { 404: send(JSON_TYPE, {}) },
  mixpanel: { 404: send(JSON_TYPE, {}) },
  replayDeadLetters: {
    200: send(SECRET_HEADERS, oneRecord()),
    400: [
      send(SECRET_HEADERS, "{}"),
      send(SECRET_HEADERS, { records: [{ key: "", value: "AAAA" }] }),
      send(SECRET_HEADERS, { topic: "x", records: [] }),
    ],
    401: send(JSON_TYPE, NO_RECORDS),
    403: [send(AUTHORIZED, NO_RECORDS), send({ ...SECRET_HEADERS, origin: ORIGIN }, NO_RECORDS)],
    413: send(SECRET_HEADERS, TOO_LARGE),
    415: send({ ...SECRET_HEADERS, "content-type": "text/plain" }, "x"),
    503: send(SECRET_HEADERS, NO_RECORDS, { away: true }),
  },
  refusedLately: {
    200: send(SECRET_HEADERS, { ids: [] }),
    400: [send(SECRET_HEADERS, "{}"), send(SECRET_HEADERS, { ids: ["x"] }), send(SECRET_HEADERS, "{")],
    401: send(JSON_TYPE, { ids: [] }),
    403: [send(AUTHORIZED, { ids: [] }), send({ ...SECRET_HEADERS, origin: ORIGIN }, { ids: [] })],
    413: send(SECRET_HEADERS, TOO_LARGE),
    415: send({ ...SECRET_HEADERS, "content-type": "text/plain" }, "x"),
  },
  health: { 200: get(), 415: get({ query: "?compression=gzip" }) },
  alive: { 200: get() },
  ready: { 200: get(), 503: get({ port: () => unready.port }) },
  metrics: { 200: get() },
  openapi: { 200: get() },
};

interface Operation {
  path: string;
  method: string;
  operationId: string;
  responses: Record<
    string,
    { content?: Record<string, { schema: Schema }>; headers?: Record<string, { schema: Schema }> }
  >;
  requestBody?: { content: Record<string, { schema: Schema }> };
}

/** A path that is another's refers to it, and has no operation of its own. */
const items = Object.entries(OPENAPI.paths as Record<string, object>).filter(([, item]) => !("$ref" in item));
const operations: Operation[] = items.flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({
    path,
    method,
    ...(operation as Omit<Operation, "path" | "method">),
  })),
);
const documented = operations.flatMap((operation) =>
  Object.keys(operation.responses).map((status) => [operation.operationId, status, operation] as const),
);

async function answerOf({ path }: Operation, { call, port, query = "", away }: Sample): Promise<Answer> {
  if (away) gateway.appendBy(() => Promise.reject(new LogUnavailableError("is away")));
  try {
    return await callH1(port?.() ?? gateway.port, path + query, call);
  } finally {
    gateway.appendBy(undefined);
  }
}

describe("every documented answer", () => {
  it("has a call that brings it about, and no call is without documentation", () => {
    const samples = Object.entries(SAMPLES).flatMap(([id, statuses]) =>
      Object.keys(statuses).map((status) => `${id} ${status}`),
    );
    expect(samples.sort()).toEqual(documented.map(([id, status]) => `${id} ${status}`).sort());
  });

  it.each(documented)("%s %s is given as documented", async (id, status, operation) => {
    const response = operation.responses[status];
    for (const sample of [SAMPLES[id]?.[status] ?? []].flat()) {
      const answer = await answerOf(operation, sample);
      expect(answer.status, answer.text).toBe(Number(status));
      const type = (answer.headers["content-type"] ?? "").split(";", 1)[0] ?? "";
      const schema = response?.content?.[type]?.schema;
      if (!response?.content) expect(answer.text).toBe("");
      else if (!schema) expect.fail(`content type ${type} is not documented`);
      else
        expect(schemaFaults(type.startsWith("text/") ? answer.text : JSON.parse(answer.text), schema, OPENAPI)).toEqual(
          [],
        );
      if (response?.headers) expect(answer.headers["retry-after"]).toMatch(/^\d+$/);
    }
  });

  it.each(operations.filter(({ requestBody }) => requestBody))(
    "$operationId takes the documented body",
    ({ operationId, requestBody }) => {
      const schema = requestBody?.content["application/json"]?.schema ?? {};
      for (const { call } of [SAMPLES[operationId]?.[200] ?? []].flat()) {
        expect(schemaFaults(JSON.parse(String(call.body)), schema, OPENAPI)).toEqual([]);
      }
    },
  );
});

describe("every route of the code is documented", () => {
  /** Both with and without a slash at the end: one form is documented. */
  const paths = new Set(
    Object.keys(OPENAPI.paths).flatMap((path) => [path, path.replace(/(.)\/$|$/, "$1"), `${path}/`]),
  );

  it("those of every wire", () => {
    const served = Object.values(WIRES).flatMap((rules): readonly string[] => rules.paths);
    expect(served.filter((path) => !paths.has(path))).toEqual([]);
  });

  it("RPCs that are no streams", () => {
    const unary = [EventService, Health].flatMap((service) =>
      service.methods
        .filter(({ methodKind }) => methodKind === "unary")
        .map(({ name }) => `/${service.typeName}/${name}`),
    );
    expect(unary.filter((path) => !paths.has(path))).toEqual([]);
  });

  it("and whatever else is written like a path in the code that answers HTTP", () => {
    const root = fileURLToPath(new URL("../..", import.meta.url));
    const files = readdirSync(join(root, "services/gateway"), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts") && !name.includes("openapi"))
      .map((name) => `services/gateway/${name}`);
    const literals = [...files, "lib/http/health.ts", "lib/events/replay-request.ts"].flatMap((file) =>
      [...readFileSync(join(root, file), "utf8").matchAll(/["'`](\/[a-z][\w./-]*)["'`]/g)].map(([, path = ""]) => path),
    );
    expect(literals).toContain("/healthz");
    expect(literals).toContain("/batch/");
    expect(literals.filter((path) => !paths.has(path))).toEqual([]);
  });
});

describe("the document", () => {
  it("is served as it is, to anybody, by GET and HEAD", async () => {
    const answer = await callH1(gateway.port, "/openapi.json", { method: "GET" });
    expect(JSON.parse(answer.text)).toEqual(JSON.parse(JSON.stringify(OPENAPI)));
    const head = await callH1(gateway.port, "/openapi.json", { method: "HEAD" });
    expect([head.status, head.text, head.headers["content-length"]]).toEqual([200, "", String(answer.body.length)]);
    const post = await callH1(gateway.port, "/openapi.json", { method: "POST" });
    expect([post.status, post.headers.allow]).toEqual([405, "GET, HEAD"]);
  });

  it("is an OpenAPI 3.1 document", () => {
    expect(schemaFaults(JSON.parse(JSON.stringify(OPENAPI)), META, META)).toEqual([]);
    const ids = operations.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("refers only to schemas that exist, leaves none unused, and has no keyword that nobody checks", () => {
    const text = JSON.stringify(OPENAPI);
    const refs = new Set([...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref));
    for (const ref of refs) resolveRef(ref, OPENAPI);
    const names = Object.keys(OPENAPI.components.schemas).map((name) => `#/components/schemas/${name}`);
    expect(names.filter((name) => !refs.has(name))).toEqual([]);
    expect(Object.values(OPENAPI.components.schemas).flatMap(unknownKeywords)).toEqual([]);
  });
});

/** The part of the specification's own schema that the document uses. */
const META: Schema = {
  type: "object",
  required: ["openapi", "info", "paths"],
  additionalProperties: false,
  properties: {
    openapi: { pattern: "^3\\.1\\.\\d+$" },
    info: {
      type: "object",
      required: ["title", "version"],
      additionalProperties: { type: "string" },
      properties: { license: { type: "object", required: ["name"], additionalProperties: { type: "string" } } },
    },
    paths: { type: "object", propertyNames: { pattern: "^/" }, additionalProperties: { $ref: "#/$defs/pathItem" } },
    components: {
      type: "object",
      additionalProperties: false,
      properties: { schemas: { type: "object" }, securitySchemes: { $ref: "#/$defs/securitySchemes" } },
    },
  },
  $defs: {
    pathItem: {
      type: "object",
      propertyNames: { enum: ["get", "post", "$ref"] },
      properties: { $ref: { pattern: "^#/paths/" } },
      additionalProperties: { $ref: "#/$defs/operation" },
    },
    operation: {
      type: "object",
      required: ["operationId", "summary", "security", "responses"],
      additionalProperties: false,
      properties: {
        operationId: { pattern: "^[a-zA-Z]+$" },
        summary: { type: "string", minLength: 1 },
        description: { type: "string", minLength: 1 },
        parameters: { type: "array", items: { type: "object", required: ["name", "in", "schema"] } },
        security: { type: "array", items: { type: "object", propertyNames: { enum: ["bearer", "basic", "apiKey"] } } },
        requestBody: {
          type: "object",
          required: ["content"],
          additionalProperties: false,
          properties: { required: { type: "boolean" }, content: { $ref: "#/$defs/content" } },
        },
        responses: {
          type: "object",
          propertyNames: { pattern: "^[1-5]\\d\\d$" },
          additionalProperties: {
            type: "object",
            required: ["description"],
            additionalProperties: false,
            properties: {
              description: { type: "string", minLength: 1 },
              content: { $ref: "#/$defs/content" },
              headers: { type: "object", additionalProperties: { type: "object", required: ["schema"] } },
            },
          },
        },
      },
    },
    content: {
      type: "object",
      propertyNames: { pattern: "^[a-z]+/[a-z.+-]+$" },
      additionalProperties: { type: "object", required: ["schema"], properties: { schema: { type: "object" } } },
    },
    securitySchemes: { type: "object", additionalProperties: { type: "object", required: ["type"] } },
  },
};

/** Keywords that schemaFaults does not know, found by checking something against every schema within. */
function unknownKeywords(schema: unknown): string[] {
  if (typeof schema !== "object" || schema === null) return [];
  const { properties = {}, items, additionalProperties } = schema as Schema;
  const inner = [...Object.values(properties as object), items, additionalProperties].flatMap(unknownKeywords);
  try {
    schemaFaults(undefined, schema as Schema, OPENAPI);
    return inner;
  } catch (error) {
    return [...inner, String(error)];
  }
}
