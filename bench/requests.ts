// Bodies of the load, encoded once: 100 events of about 350 bytes, as a web shop would send them.
import { randomUUID } from "node:crypto";
import { create, type JsonObject, toBinary, toJsonString } from "@bufbuild/protobuf";
import { PublishRequestSchema } from "#gen/millrace/events/v1/events_pb.ts";

export const BATCH_KEY = "bench-key";
export const KINDS = ["connect-json", "connect-protobuf", "connect-struct", "grpc", "events", "batch"] as const;
export type Kind = (typeof KINDS)[number];

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
  const batch = Array.from({ length: count }, (_, i) => ({
    event: "page_view",
    distinct_id: `user_${(first + i) % 5000}`,
    properties: PROPERTIES,
    uuid: randomUUID(),
    timestamp: sentAt,
  }));
  const body = Buffer.from(JSON.stringify({ api_key: BATCH_KEY, batch, sent_at: sentAt }));
  return { path: "/batch/", headers: { "content-type": "application/json" }, body, events: count };
}

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
