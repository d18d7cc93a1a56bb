// Every text that a caller chooses costs time in proportion to its length: the fields of each wire through a whole gateway,
// headers, and the parsers behind other ports.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseDateText, parseRfc3339 } from "#lib/events/time.ts";
import { credentialsOf } from "#lib/http/credential.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import { parseItem } from "#lib/relay-protocol/items.ts";
import { createLineSplitter } from "#lib/relay-protocol/lines.ts";
import { parseOverride } from "#lib/relay-protocol/override.ts";
import { remedyOf } from "#lib/warehouse/warehouse-errors.ts";
import { createRowParser } from "../../commands/import/parse.ts";
import { createTimeParser } from "../../commands/import/time.ts";
import { createTrustedProxies } from "../../services/gateway/trusted-proxies.ts";
import { parseBackfill, parseInfluxDuration, pathOf, queryOf } from "../../services/stats/query-string.ts";
import { KEY, ORIGIN } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { excessGrowth, HOSTILE_SHAPES } from "../kit/growth.ts";
import { connectH1, type OneConnection } from "../kit/http-calls.ts";
import { patience } from "../kit/patience.ts";

const FIELD_CHARS = 8_000;
/** Where one body has the text in several fields. */
const OTHERS_CHARS = 2_000;
/** Of the 32 KiB that all headers of a request may have. */
const HEADER_CHARS = 2_000;
const PARSER_CHARS = 16_000;
const TIMEOUT = { timeout: patience(120_000) };
const TIME = "2026-03-27T12:00:00Z";

let gateway: TestGateway;
let connection: OneConnection;
beforeAll(async () => {
  const settings = { publicApiKeys: [KEY], allowedOrigins: [ORIGIN], trustedProxies: ["loopback"] };
  gateway = await startTestGateway(settings);
  connection = connectH1(gateway.port);
});
afterAll(async () => {
  connection[Symbol.dispose]();
  await gateway[Symbol.asyncDispose]();
});

/** The worst of all shapes; undefined when none grows too fast. */
async function worstOf(run: (text: string) => unknown, length: number): Promise<string | undefined> {
  for (const [name, shape] of Object.entries(HOSTILE_SHAPES)) {
    const found = await excessGrowth(run, shape, length);
    if (found !== undefined) return `${name}: ${found}`;
  }
  return undefined;
}

async function post(path: string, body: string, headers: Record<string, string> = {}): Promise<void> {
  const json = { "content-type": "application/json", "x-api-key": KEY };
  const { status, text } = await connection.call(path, { body, headers: { ...json, ...headers } });
  expect([status, text]).toEqual([expect.toSatisfy((s: number) => s < 500), text]);
}

describe("POST /events", TIMEOUT, () => {
  const event = { event_type: "e", source: "s", created_at: TIME };
  const bodies: Record<string, (text: string) => unknown> = {
    event_type: (text) => ({ ...event, event_type: text }),
    source: (text) => ({ ...event, source: text }),
    user_id: (text) => ({ ...event, user_id: text }),
    id: (text) => ({ ...event, id: text }),
    created_at: (text) => ({ ...event, created_at: text }),
    value: (text) => ({ ...event, value: text }),
    "an unknown field": (text) => ({ ...event, other: text }),
    "an unknown field's name": (text) => ({ ...event, [text]: 1 }),
    "a property": (text) => ({ ...event, properties: { $session_id: text } }),
    "a property's name": (text) => ({ ...event, properties: { [text]: 1 } }),
  };

  it.each(Object.entries(bodies))("%s", async (_, bodyOf) => {
    expect(await worstOf((text) => post("/events", JSON.stringify(bodyOf(text))), FIELD_CHARS)).toBeUndefined();
  });
});

describe("POST /batch/", TIMEOUT, () => {
  const event = { event: "e", distinct_id: "d" };
  const bodies: Record<string, (text: string) => unknown> = {
    event: (text) => ({ batch: [{ ...event, event: text }] }),
    distinct_id: (text) => ({ batch: [{ ...event, distinct_id: text }] }),
    uuid: (text) => ({ batch: [{ ...event, uuid: text }] }),
    timestamp: (text) => ({ batch: [{ ...event, timestamp: text }] }),
    "an event's api_key": (text) => ({ batch: [{ ...event, api_key: text }] }),
    api_key: (text) => ({ api_key: text, batch: [event] }),
    sent_at: (text) => ({ sent_at: text, batch: [{ ...event, timestamp: TIME }] }),
    "an unknown field's name": (text) => ({ [text]: 1, batch: [{ ...event, [text]: 1 }] }),
    "a property": (text) => ({ batch: [{ event: "e", properties: { distinct_id: text, $host: text } }] }),
    "a property's name": (text) => ({ batch: [{ ...event, properties: { [text]: 1 } }] }),
    "a person's property": (text) => ({ batch: [{ ...event, properties: { $set: { [text]: text } } }] }),
  };

  it.each(Object.entries(bodies))("%s", async (_, bodyOf) => {
    const send = (text: string) => post("/batch/", JSON.stringify(bodyOf(text)));
    expect(await worstOf(send, FIELD_CHARS)).toBeUndefined();
  });

  it("timestamp, without a key from a listed Origin", async () => {
    const send = async (timestamp: string) => {
      const body = JSON.stringify({ batch: [{ ...event, timestamp }] });
      await connection.call("/batch/", { body, headers: { "content-type": "application/json", origin: ORIGIN } });
    };
    expect(await worstOf(send, FIELD_CHARS)).toBeUndefined();
  });
});

describe("Publish as JSON", TIMEOUT, () => {
  const event = { event: "e", distinctId: "d" };
  const events: Record<string, (text: string) => unknown> = {
    id: (text) => ({ ...event, id: text }),
    event: (text) => ({ ...event, event: text }),
    distinctId: (text) => ({ ...event, distinctId: text }),
    source: (text) => ({ ...event, source: text }),
    value: (text) => ({ ...event, value: text }),
    time: (text) => ({ ...event, time: text }),
    "an unknown field's name": (text) => ({ ...event, [text]: 1 }),
    "a property": (text) => ({ ...event, properties: { $current_url: text } }),
    "a property's name": (text) => ({ ...event, properties: { [text]: 1 } }),
    propertiesJson: (text) => ({ ...event, propertiesJson: text }),
    "a text in propertiesJson": (text) => ({ ...event, propertiesJson: JSON.stringify({ a: text }) }),
  };

  it.each(Object.entries(events))("%s", async (_, eventOf) => {
    const path = "/millrace.events.v1.EventService/Publish";
    const send = (text: string) => post(path, JSON.stringify({ events: [eventOf(text)] }));
    expect(await worstOf(send, FIELD_CHARS)).toBeUndefined();
  });
});

describe("other people's wires", TIMEOUT, () => {
  const uuid = "0192f0c1-2345-7abc-8def-0123456789ab";
  const people = (text: string) => ({ $set: { [text]: text }, $unset: [text], $groups: { [text]: text } });
  const v1 = (more: object) => ({ batch: [{ uuid, event: "e", distinct_id: "d", ...more }] });
  const segment = (more: object) => ({ batch: [{ type: "track", event: "e", userId: "u", ...more }] });
  const cloud = (more: object) => ({ specversion: "1.0", id: "1", source: "s", type: "t", ...more });
  const bodies: Record<string, [path: string, type: string, bodyOf: (text: string) => unknown]> = {
    "V1, texts": [
      "/i/v1/analytics/events",
      "application/json",
      (text) => v1({ event: text, distinct_id: text, uuid: text, session_id: text, window_id: text }),
    ],
    "V1, time": ["/i/v1/analytics/events", "application/json", (text) => v1({ timestamp: text })],
    "V1, people": [
      "/i/v1/analytics/events",
      "application/json",
      (text) =>
        v1({ ...people(text), [text]: 1, options: { [text]: text, product_tour_id: text }, properties: people(text) }),
    ],
    "Segment, texts": [
      "/v1/batch",
      "text/plain",
      (text) => segment({ type: text, event: text, userId: text, anonymousId: text, messageId: text, groupId: text }),
    ],
    "Segment, times": [
      "/v1/batch",
      "text/plain",
      (text) => ({ ...segment({ timestamp: text, originalTimestamp: text, sentAt: text }), sentAt: text }),
    ],
    "Segment, context": [
      "/v1/batch",
      "text/plain",
      (text) =>
        segment({
          context: { page: { url: `https://${text}`, referrer: text }, userAgent: text, groupId: text, [text]: text },
        }),
    ],
    "Segment, traits": [
      "/v1/identify",
      "text/plain",
      (text) => ({ userId: "u", anonymousId: text, traits: { [text]: text } }),
    ],
    "Jitsu, key": ["/api/s/track", "application/json", (text) => ({ userId: "u", event: "e", writeKey: text })],
    "CloudEvents, texts": [
      "/cloudevents",
      "application/cloudevents+json",
      (text) =>
        cloud({ id: text, source: text, type: text, subject: text, data_base64: text, data: text, [text]: text }),
    ],
    "CloudEvents, time": [
      "/cloudevents",
      "application/cloudevents+json",
      (text) => cloud({ time: text, specversion: text }),
    ],
    "lines, texts": [
      "/v0/events?name=n",
      "application/x-ndjson",
      (text) => ({ event: text, distinct_id: text, uuid: text, [text]: text, properties: { [text]: text } }),
    ],
    "lines, time": ["/v0/events?name=n", "application/x-ndjson", (text) => ({ timestamp: text })],
    flags: ["/flags/?v=2", "text/plain", (text) => ({ token: text, distinct_id: text, [text]: text })],
  };

  it.each(Object.entries(bodies))("%s", async (_, [path, type, bodyOf]) => {
    const send = (text: string) => post(path, JSON.stringify(bodyOf(text)), { "content-type": type });
    expect(await worstOf(send, OTHERS_CHARS)).toBeUndefined();
  });

  it.each([
    ["a form", "/e/", (text: string) => `ip=${text}&data=${text}`],
    ["a form of percent signs", "/e/", (text: string) => `data=${encodeURIComponent(text.toWellFormed())}`],
    ["base64", "/e/?compression=base64", (text: string) => Buffer.from(text).toString("base64")],
    ["lines", "/v0/events?name=n", (text: string) => text.replaceAll(/[^"]/g, "\n")],
  ])("%s", async (_, path, bodyOf) => {
    const type = "application/x-www-form-urlencoded";
    const send = (text: string) => post(path, bodyOf(text), { "content-type": type });
    expect(await worstOf(send, OTHERS_CHARS)).toBeUndefined();
  });
});

it.each(["/events", "/batch/"])("a body of %s that is no JSON", TIMEOUT, async (path) => {
  expect(await worstOf((text) => post(path, text), FIELD_CHARS)).toBeUndefined();
});

const HEADERS = ["authorization", "x-api-key", "origin", "x-forwarded-for", "traceparent", "content-type"];

it.each([...HEADERS, "accept", "user-agent", "cookie"])("the header %s", TIMEOUT, async (name) => {
  const send = async (text: string) => {
    const value = text.replaceAll(/[^\t -~]/g, " ");
    const headers = { "content-type": "application/json", [name]: value };
    await connection.call("/batch/", { body: "{}", headers });
  };
  expect(await worstOf(send, HEADER_CHARS)).toBeUndefined();
});

it("the path and its query", TIMEOUT, async () => {
  const send = (text: string) => post(`/${encodeURI(text.toWellFormed())}?${encodeURI(text.toWellFormed())}`, "{}");
  expect(await worstOf(send, HEADER_CHARS / 3)).toBeUndefined();
});

describe("what other ports and commands read", TIMEOUT, () => {
  const requestWith = (headers: Record<string, string>, url = "/") => ({ headers, url }) as unknown as HttpRequest;
  const proxies = createTrustedProxies(["10.0.0.0/8"]);
  const readTime = createTimeParser({ zone: "Europe/Berlin", dateOrder: "dmy" });
  const rows = createRowParser("csv");
  rows.parse("a,b");
  const parsers: Record<string, (text: string) => unknown> = {
    "RFC 3339": parseRfc3339,
    "a time of /batch/": parseDateText,
    "a time of an import": readTime,
    "a number of an import": (text) => createRowParser("ndjson").parse(`{"a":${text}}`),
    "a row of an import": (text) => rows.parse(text),
    "a Bearer key": (text) => credentialsOf(requestWith({ authorization: `Bearer ${text}` })),
    "a Basic key": (text) => credentialsOf(requestWith({ authorization: `Basic ${text}` })),
    "X-Forwarded-For": (text) => proxies.clientOf("10.0.0.1", text),
    "the query of stats": (text) => queryOf(requestWith({}, `/?a=${text}`)),
    "the path of stats": (text) => pathOf(requestWith({}, `/${text}`)),
    backfill: parseBackfill,
    "a duration": parseInfluxDuration,
    "a relay's item": (text) => parseItem(`cpu-${text}:${text}`),
    "a relay's override": (text) => parseOverride(`60 ${text}`),
    "a relay's line": (text) => createLineSplitter(64 * 1024).push(Buffer.from(text), () => {}),
    "an exception of ClickHouse": (text) => remedyOf(undefined, text.replaceAll("z z", ": while pushing to view '")),
  };

  it.each(Object.entries(parsers))("%s", async (_, parse) => {
    expect(await worstOf(parse, PARSER_CHARS)).toBeUndefined();
  });
});
