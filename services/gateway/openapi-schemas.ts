// JSON Schemas of what the plain-HTTP routes take and answer: components of openapi.ts. Rules that are checked event by
// event, and answered event by event, are in descriptions.
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";

const PROPERTIES = { type: "object", description: "Any JSON; at most 1,000 keys in all, 32 levels deep." };
const ID = {
  type: "string",
  format: "uuid",
  description: "The idempotency key: two events with one id are one event.",
};
const REJECTION_CODES = ["MISSING", "INVALID", "TOO_LARGE", "TOO_COMPLEX", "UNAVAILABLE"];
const CONNECT_CODES = [
  ...["invalid_argument", "unauthenticated", "resource_exhausted", "unavailable"],
  ...["unimplemented", "not_found", "internal", "unknown"],
];
const COUNT = { type: "integer", minimum: 0 };
const POSITIONS = {
  type: "array",
  description:
    'Where asked for, the place of each event, such as "millrace.events:0:17"; "" for one that is not stored.',
  items: { type: "string" },
};
const BASE64 = { type: "string", contentEncoding: "base64" };

function object(required: readonly string[], properties: Record<string, unknown>, more: Record<string, unknown> = {}) {
  return { type: "object", required, properties, ...more };
}

/** An answer has these fields and no others, so that a new one cannot stay undocumented. */
function answer(required: readonly string[], properties: Record<string, unknown>) {
  return object(required, properties, { additionalProperties: false });
}

const EVENTS = {
  SingleEvent: object(
    ["event_type", "source", "created_at"],
    {
      id: ID,
      event_type: { type: "string", minLength: 1, description: "Name, at most 200 bytes." },
      source: { type: "string", minLength: 1, description: "Where it came from, at most 200 bytes." },
      user_id: { type: "string", description: "Who did it, at most 1,024 bytes." },
      value: { type: "number", description: "What was measured." },
      created_at: { type: "string", format: "date-time" },
      properties: PROPERTIES,
    },
    { description: "Other fields become properties." },
  ),
  Accepted: answer(["status"], {
    status: { const: "accepted" },
    position: { type: "string", description: "With x-millrace-positions: true: where on the log it is." },
  }),
  Error: answer(["error"], { error: { type: "string", description: "The field, what is wrong, what to do." } }),
};

const BATCH = {
  Batch: object(["batch"], {
    api_key: { type: "string" },
    batch: { type: "array", minItems: 1, items: { $ref: "#/components/schemas/BatchEvent" } },
    sent_at: { type: "string", format: "date-time", description: "The caller's clock; corrects browsers' times." },
    check_stored: { type: "boolean", description: "Look each uuid up among the stored rows, however old." },
    historical_migration: { type: "boolean", description: "Without effect." },
  }),
  BatchEvent: object([], {
    event: { type: "string", description: "Without one the event is dropped." },
    distinct_id: { type: "string", description: "Or among the properties; without one the event is dropped." },
    properties: { type: "object" },
    $set: { type: "object", description: "Beside the properties as among them; so are $set_once, $unset, alias." },
    timestamp: { type: "string", description: "RFC 3339 or another form of one meaning; absent: the receive time." },
    uuid: { ...ID, description: "The idempotency key; ignored if it is not a UUID." },
    api_key: { type: "string" },
  }),
  BatchAccepted: answer(["status", "ingested", "dropped"], {
    status: { const: "ok" },
    ingested: COUNT,
    dropped: COUNT,
    rejected: {
      type: "array",
      description: "The dropped events that are invalid, not those without a name or a distinct id.",
      items: { $ref: "#/components/schemas/BatchRejection" },
    },
    positions: POSITIONS,
  }),
  BatchRejection: answer(["index", "code", "field", "message"], {
    index: { ...COUNT, description: "Position in batch." },
    code: { enum: ["missing", "invalid", "too_large", "too_complex"] },
    field: { type: "string" },
    message: { type: "string" },
  }),
  BatchError: answer(["status", "error"], { status: { const: "error" }, error: { type: "string" } }),
};

const ANY = { type: "object" };
const POSTHOG_EVENT = { $ref: "#/components/schemas/PostHogEvent" };

const POSTHOG = {
  PostHogEvent: object([], {
    event: { type: "string", minLength: 1 },
    distinct_id: { description: "Text or number; or among the properties." },
    properties: ANY,
    timestamp: { type: "string", description: "As on POST /batch/." },
    uuid: ID,
    api_key: { type: "string" },
    token: { type: "string", description: "The same as api_key." },
  }),
  PostHogBody: object(
    [],
    {
      api_key: { type: "string" },
      token: { type: "string" },
      batch: { type: "array", minItems: 1, items: POSTHOG_EVENT },
      sent_at: { type: "string", description: "The sender's clock; corrects browsers' times." },
    },
    { description: "Without a batch the object is one PostHogEvent. An array of them is taken as well." },
  ),
  PostHogAccepted: answer(["status"], {
    status: { const: 1 },
    dropped: COUNT,
    rejected: { type: "array", items: { $ref: "#/components/schemas/BatchRejection" } },
  }),
  PostHogError: answer(["type", "code", "detail", "attr"], {
    type: { enum: ["authentication_error", "validation_error", "error"] },
    code: { type: "string" },
    detail: { type: "string", description: "The field, what is wrong, what to do." },
    attr: { type: "null" },
  }),
  PostHogV1Batch: object(["batch"], {
    created_at: { type: "string" },
    batch: { type: "array", minItems: 1, items: POSTHOG_EVENT },
  }),
  PostHogV1Results: answer(["results"], {
    results: {
      type: "object",
      description: "By uuid.",
      additionalProperties: answer(["result"], {
        result: { enum: ["ok", "drop", "retry"] },
        details: { type: "string" },
      }),
    },
  }),
  PostHogFlagsRequest: object([], { token: { type: "string" }, api_key: { type: "string" } }),
  PostHogFlags: object(["flags", "featureFlags", "featureFlagPayloads", "errorsWhileComputingFlags", "requestId"], {
    flags: ANY,
    errorsWhileComputingFlags: { const: false },
    requestId: { type: "string" },
  }),
  PostHogConfig: object(["supportedCompression", "analytics", "hasFeatureFlags"], {
    autocapture_opt_out: { const: false },
    hasFeatureFlags: { const: false },
    sessionRecording: { const: false },
    surveys: { type: "null" },
  }),
  PostHogReplay: answer(["status", "quota_limited"], {
    status: { const: 1 },
    quota_limited: { type: "array", items: { const: "recordings" } },
  }),
};

const SEGMENT_MESSAGE = { $ref: "#/components/schemas/SegmentMessage" };
const ID_TEXT = { description: "A text or a number." };
const TEXT = { type: "string" };
const REJECTED = { type: "array", items: { $ref: "#/components/schemas/BatchRejection" } };

const WIRES = {
  SegmentMessage: object([], {
    type: { enum: ["track", "page", "screen", "identify", "group", "alias"] },
    event: { type: "string", description: "Of a track message." },
    userId: ID_TEXT,
    anonymousId: ID_TEXT,
    groupId: ID_TEXT,
    previousId: ID_TEXT,
    messageId: { description: "Two messages of a key with one messageId are one event." },
    properties: ANY,
    traits: ANY,
    context: { ...ANY, description: "Kept as the property context, and read as docs/wires.md says." },
    timestamp: { type: "string" },
    originalTimestamp: { type: "string" },
    sentAt: { type: "string", description: "The caller's clock, by which the time is corrected." },
    writeKey: { type: "string" },
  }),
  SegmentBatch: object(["batch"], {
    batch: { type: "array", items: SEGMENT_MESSAGE },
    sentAt: { type: "string" },
    writeKey: { type: "string" },
  }),
  SegmentAccepted: answer([], {
    success: { const: true, description: "Absent when no message could be taken." },
    accepted: COUNT,
    rejected: REJECTED,
  }),
  JitsuAccepted: answer(["ok"], { ok: { const: true } }),
  SegmentError: answer(["code", "message"], { code: { type: "string" }, message: { type: "string" } }),
  SegmentSettings: object(["integrations", "plan"], { integrations: ANY, plan: ANY }),
  RudderSource: object(["source"], { source: ANY }),
  CloudEvent: object(["specversion", "id", "source", "type"], {
    specversion: { const: "1.0" },
    id: { type: "string", minLength: 1, description: "Unique within the source: the two make the event's id." },
    source: { type: "string", minLength: 1 },
    type: { type: "string", minLength: 1, description: "The event's name." },
    subject: { type: "string", description: "Who it is about: the distinct id." },
    time: { type: "string", format: "date-time" },
    data: { description: "An object is the properties; anything else the property data." },
  }),
  PartlyAccepted: answer(["accepted", "rejected"], { accepted: COUNT, rejected: REJECTED }),
  CloudEventError: answer(["status", "error", "code", "detail"], {
    ...{ status: COUNT, error: TEXT, code: TEXT, detail: TEXT },
  }),
  NdjsonRows: answer(["successful_rows", "quarantined_rows"], {
    successful_rows: COUNT,
    quarantined_rows: COUNT,
    rejected: REJECTED,
    positions: {
      type: "array",
      description: "The last of the events in each partition of the log.",
      items: answer(["partition", "offset"], { partition: COUNT, offset: COUNT }),
    },
  }),
  OtlpStatus: answer(["code", "message"], { code: { const: 12 }, message: { type: "string" } }),
  InfluxError: answer(["code", "message", "error"], { code: { const: "not found" }, message: TEXT, error: TEXT }),
  MixpanelError: answer(["status", "code", "error"], {
    status: { const: 0 },
    code: { const: 404 },
    error: { type: "string" },
  }),
};

const RPC = {
  PublishRequest: answer(["events"], {
    events: { type: "array", minItems: 1, items: { $ref: "#/components/schemas/Event" } },
    checkStored: { type: "boolean", description: "Look each id up among the stored rows, however old." },
    returnPositions: { type: "boolean", description: "Have the answer say where on the log each event is." },
  }),
  Event: answer(["event"], {
    id: ID,
    event: { type: "string", description: "Name, at most 200 bytes." },
    distinctId: { type: "string", description: "At most 1,024 bytes." },
    source: { type: "string", description: "At most 200 bytes." },
    value: { type: "number" },
    time: { type: "string", format: "date-time" },
    properties: PROPERTIES,
    propertiesJson: { type: "string", description: "Instead of properties: the same as JSON text." },
  }),
  PublishResponse: answer([], {
    accepted: { ...COUNT, description: "Events that are durable; absent for 0." },
    rejected: { type: "array", items: { $ref: "#/components/schemas/Rejection" } },
    positions: POSITIONS,
  }),
  Rejection: answer(["code", "message"], {
    index: { ...COUNT, description: "Position in events; absent for 0." },
    code: { enum: REJECTION_CODES.map((code) => `REJECTION_CODE_${code}`) },
    field: { type: "string" },
    message: { type: "string" },
    retryable: { type: "boolean", description: "Send the event again as it is; absent for false." },
  }),
  ConnectError: object(["code"], { code: { enum: CONNECT_CODES }, message: { type: "string" } }),
  HealthCheckRequest: answer([], { service: { type: "string" } }),
  HealthCheckResponse: answer(["status"], { status: { enum: ["SERVING", "NOT_SERVING"] } }),
};

const OPERATIONS = {
  Ok: answer(["ok"], { ok: { const: true } }),
  Alive: answer(["status"], { status: { const: "ok" } }),
  Readiness: answer(["status", "checks"], {
    status: { enum: ["ready", "not ready", "draining"] },
    checks: { type: "object", additionalProperties: { type: "string", description: "ok, or the reason why not" } },
  }),
  OpenApi: object(["openapi", "info", "paths"], { openapi: { const: "3.1.0" } }),
  Replay: object(["records"], {
    topic: { enum: [EVENTS_TOPIC, POINTS_TOPIC], description: "Of all records; events when it is absent." },
    records: { type: "array", items: object(["key", "value"], { key: BASE64, value: BASE64 }) },
  }),
  RefusedRequest: object(["ids"], {
    ids: { type: "array", items: { type: "string", format: "uuid" } },
  }),
  RefusedLately: answer(["since_ms", "sums", "refused"], {
    since_ms: { type: "number", description: "Everything refused since then that had an id is known." },
    sums: {
      type: "array",
      items: answer(["reason", "last_hour", "newest_ms"], {
        ...{ reason: { type: "string" }, last_hour: COUNT, newest_ms: { type: "number" } },
      }),
    },
    refused: {
      type: "array",
      items: answer(["id", "reason", "field", "event", "time_ms", "retryable"], {
        ...{ id: { type: "string" }, reason: { type: "string" }, field: { type: "string" }, event: { type: "string" } },
        ...{ time_ms: { type: "number" }, retryable: { type: "boolean" } },
      }),
    },
  }),
  Replayed: answer(["positions"], {
    positions: { type: "array", items: answer(["partition", "offset"], { partition: COUNT, offset: COUNT }) },
  }),
};

export const SCHEMAS = { ...EVENTS, ...BATCH, ...POSTHOG, ...WIRES, ...RPC, ...OPERATIONS };
