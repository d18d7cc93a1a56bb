// Bodies of the load, encoded once: 100 events of about 350 bytes, as a web shop would send them.
import { randomUUID } from "node:crypto";
import { create, type JsonObject, toBinary, toJsonString } from "@bufbuild/protobuf";
import { PublishRequestSchema } from "#gen/millrace/events/v1/events_pb.ts";

export const BATCH_KEY = "bench-key";
export const KINDS = ["connect-json", "connect-protobuf", "connect-struct", "grpc", "events", "batch"] as const;
/** Other vendors' wires, with the same events as their clients write them. */
export const WIRE_KINDS = ["posthog", "posthog-v1", "segment", "cloudevents", "ndjson"] as const;
export type WireKind = (typeof WIRE_KINDS)[number];
export type Kind = (typeof KINDS)[number] | WireKind;

export interface PreparedRequest {
  path: string;
  headers: Record<string, string>;
  body: Buffer;
  events: number;
}

const PUBLISH = "/millrace.events.v1.EventService/Publish";
const PROPERTIES: JsonObject = {
  $session_id: "0192f0c1-2345-7abc-8def-0123456789ab",
  $current_url: "https://shop.example/products/17?ref=mail",
  $host: "shop.example",
  plan: "pro",
  items: 3,
  price: 12.5,
  member: true,
  browser: "Firefox",
  os: "Linux",
  referrer: "https://news.example.org/",
};

export const propertiesText = JSON.stringify(PROPERTIES);

/** `variants` different requests, of these numbers of events in turn (POST /events: always one). */
export function prepareRequests(kind: Kind, variants: number, sizes: readonly number[]): PreparedRequest[] {
  let first = 0;
  return Array.from({ length: variants }, (_, v) => {
    const request = prepareRequest(kind, first, sizes[v % sizes.length] as number);
    first += request.events;
    return request;
  });
}

function prepareRequest(kind: Kind, first: number, count: number): PreparedRequest {
  if (kind === "events") return prepareSingle(first);
  if (kind === "batch") return prepareBatch(first, count);
  if (isWireKind(kind)) return prepareWire(kind, first, count);
  const isStruct = kind === "connect-json" || kind === "connect-struct";
  const message = create(PublishRequestSchema, {
    events: Array.from({ length: count }, (_, i) => ({
      event: "page_view",
      distinctId: `user_${(first + i) % 5000}`,
      source: "web",
      value: first + i,
      time: { seconds: BigInt(Math.floor(Date.now() / 1000)) },
      propertiesKind: isStruct
        ? { case: "properties" as const, value: PROPERTIES }
        : { case: "propertiesJson" as const, value: propertiesText },
    })),
  });
  if (kind === "connect-json") {
    const body = Buffer.from(toJsonString(PublishRequestSchema, message));
    return { path: PUBLISH, headers: { "content-type": "application/json" }, body, events: count };
  }
  const body = Buffer.from(toBinary(PublishRequestSchema, message));
  if (kind !== "grpc") return { path: PUBLISH, headers: { "content-type": "application/proto" }, body, events: count };
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  const headers = { "content-type": "application/grpc", te: "trailers" };
  return { path: PUBLISH, headers, body: Buffer.concat([prefix, body]), events: count };
}

/** As posthog-node sends them; `BATCH_KEY` is the one thing this dialect always asks for. */
function prepareBatch(first: number, count: number): PreparedRequest {
  const sentAt = new Date().toISOString();
  const body = JSON.stringify({ api_key: BATCH_KEY, batch: posthogEvents(first, count, sentAt), sent_at: sentAt });
  return { path: "/batch/", headers: { "content-type": "application/json" }, body: Buffer.from(body), events: count };
}

function posthogEvents(first: number, count: number, timestamp: string) {
  return Array.from({ length: count }, (_, i) => ({
    event: "page_view",
    distinct_id: `user_${(first + i) % 5000}`,
    properties: PROPERTIES,
    uuid: randomUUID(),
    timestamp,
  }));
}

export function isWireKind(kind: Kind): kind is WireKind {
  return (WIRE_KINDS as readonly string[]).includes(kind);
}

function prepareWire(kind: WireKind, first: number, count: number): PreparedRequest {
  const { path, type, headers, body } = WIRE_REQUESTS[kind](first, count, new Date().toISOString());
  const all = { authorization: `Bearer ${BATCH_KEY}`, "content-type": type, ...headers };
  return {
    path,
    headers: all,
    body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)),
    events: count,
  };
}

interface WireRequest {
  path: string;
  type: string;
  headers?: Record<string, string>;
  body: object | string;
}

const WIRE_REQUESTS: Readonly<Record<WireKind, (first: number, count: number, now: string) => WireRequest>> = {
  posthog: (first, count, now) => ({
    ...{ path: "/e/", type: "text/plain" },
    body: { api_key: BATCH_KEY, batch: posthogEvents(first, count, now), sent_at: now },
  }),
  "posthog-v1": (first, count, now) => ({
    ...{ path: "/i/v1/analytics/events", type: "application/json" },
    headers: { "posthog-sdk-info": "posthog-node/5.70.0", "posthog-request-timestamp": now },
    body: {
      ...{ created_at: now, historical_migration: false },
      batch: posthogEvents(first, count, now).map(({ properties: { $session_id, ...properties }, ...event }) => {
        return { ...event, session_id: $session_id, options: {}, properties };
      }),
    },
  }),
  segment: (first, count, now) => ({
    ...{ path: "/v1/batch", type: "application/json" },
    body: {
      batch: posthogEvents(first, count, now).map(({ event, distinct_id, properties, uuid, timestamp }, n) => ({
        ...{ timestamp, integrations: {}, type: "track", event, userId: distinct_id, properties },
        context: { library: { name: "@segment/analytics-node", version: "3.1.0" } },
        messageId: `node-next-${n}-${uuid}`,
        _metadata: { nodeVersion: "24.0.0", jsRuntime: "node" },
      })),
      ...{ writeKey: BATCH_KEY, sentAt: now },
    },
  }),
  cloudevents: (first, count, now) => ({
    ...{ path: "/api/v1/events", type: "application/cloudevents-batch+json" },
    body: posthogEvents(first, count, now).map(({ event, distinct_id, properties, uuid, timestamp }) => ({
      ...{ specversion: "1.0", id: uuid, source: "@openmeter/sdk", type: event, subject: distinct_id, time: timestamp },
      data: properties,
    })),
  }),
  ndjson: (first, count, now) => ({
    ...{ path: "/v0/events?name=page_view", type: "application/x-ndjson" },
    body: posthogEvents(first, count, now)
      .map(({ event: _, ...line }) => JSON.stringify(line))
      .join("\n"),
  }),
};

function prepareSingle(n: number): PreparedRequest {
  const event = {
    event_type: "page_view",
    source: "web",
    user_id: `user_${n % 5000}`,
    value: n,
    created_at: new Date().toISOString(),
    properties: PROPERTIES,
  };
  const body = Buffer.from(JSON.stringify(event));
  return { path: "/events", headers: { "content-type": "application/json" }, body, events: 1 };
}
