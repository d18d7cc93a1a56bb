// The paths of Segment's family, CloudEvents and lines of JSON in the OpenAPI document, and those that are not taken.
import { ANY_KEY, AWAY, answer, body, later, NOT_SUPPORTED, OPEN, samePath, TOO_FAST } from "./openapi-parts.ts";
import type { SCHEMAS } from "./openapi-schemas.ts";
import { WIRES } from "./wire-table.ts";

const MALFORMED = "Bytes that are not JSON, or no event that can be taken.";
const NO_KEY = "No key, or an unknown one.";
const TOO_LARGE = "Over MAX_BATCH_BYTES or MAX_EVENTS_PER_BATCH.";
const pathParameter = (name: string) => [{ name, in: "path", required: true, schema: { type: "string" } }];

/** Of a wire that stores what it is sent. */
function refusals(schema: keyof typeof SCHEMAS) {
  return {
    400: answer(MALFORMED, schema),
    401: answer(NO_KEY, schema),
    405: answer("Another method than POST.", schema),
    413: answer(TOO_LARGE, schema),
    415: answer(NOT_SUPPORTED, schema),
    429: later(TOO_FAST, schema),
    503: later(`${AWAY} Send the events again with the same ids.`, schema),
  };
}

const segmentRefusals = {
  ...refusals("SegmentError"),
  403: answer("An Origin that is not in ALLOWED_ORIGINS.", "SegmentError"),
};
const KEY_PLACES = "The key may also be x-write-key, or writeKey in the body.";

const segmentBatch = {
  post: {
    operationId: "segmentBatch",
    summary: "Stores a batch of messages of Segment's and RudderStack's libraries",
    description: `${KEY_PLACES} The body may be called a form or text.`,
    security: ANY_KEY,
    requestBody: body("SegmentBatch"),
    responses: {
      200: answer("Durable on the event log, but for those that are listed in rejected.", "SegmentAccepted"),
      ...segmentRefusals,
    },
  },
};

const segmentMessage = {
  post: {
    operationId: "segmentMessage",
    summary: "Stores one message; the path is its type",
    description: `${KEY_PLACES} The body may be called a form or text.`,
    security: ANY_KEY,
    requestBody: body("SegmentMessage"),
    responses: { 200: answer("Durable on the event log.", "SegmentAccepted"), ...segmentRefusals },
  },
};

const jitsu = {
  post: {
    operationId: "jitsuMessage",
    summary: "Stores one message of Jitsu's libraries; the path is its type, or the message says it",
    description: KEY_PLACES,
    security: ANY_KEY,
    parameters: pathParameter("type"),
    requestBody: body("SegmentMessage"),
    responses: { 200: answer("Durable on the event log.", "JitsuAccepted"), ...segmentRefusals },
  },
};

const segmentSettings = {
  get: {
    operationId: "segmentSettings",
    summary: "Settings of analytics.js: this address, and no destinations",
    security: OPEN,
    parameters: pathParameter("key"),
    responses: { 200: answer("With the key and the address that were asked for.", "SegmentSettings") },
  },
};

const rudderSource = {
  get: {
    operationId: "rudderSource",
    summary: "Settings of RudderStack's library for browsers: no destinations",
    security: OPEN,
    responses: { 200: answer("With the key that was asked for.", "RudderSource") },
  },
};

const CLOUDEVENT = { $ref: "#/components/schemas/CloudEvent" };

const cloudevents = {
  post: {
    operationId: "cloudEvents",
    summary: "Stores CloudEvents 1.0: structured, in a batch, or binary with attributes in headers",
    description: "POST /events takes them as well.",
    security: ANY_KEY,
    requestBody: {
      required: true,
      content: {
        "application/cloudevents+json": { schema: CLOUDEVENT },
        "application/cloudevents-batch+json": { schema: { type: "array", items: CLOUDEVENT } },
      },
    },
    responses: {
      200: answer("Durable on the event log, but for those that are listed in rejected.", "PartlyAccepted"),
      204: { description: "All are durable on the event log." },
      ...refusals("CloudEventError"),
    },
  },
};

const ndjson = {
  post: {
    operationId: "ndjsonEvents",
    summary: "Stores events, one a line of JSON",
    security: ANY_KEY,
    parameters: [
      {
        name: "name",
        in: "query",
        description: "The event's name where a line has no event.",
        schema: { type: "string" },
      },
      { name: "wait", in: "query", description: "true: answer when the rows are stored.", schema: { type: "string" } },
      { name: "token", in: "query", description: "The key.", schema: { type: "string" } },
    ],
    requestBody: { required: true, content: { "application/x-ndjson": { schema: { type: "string" } } } },
    responses: {
      200: answer("Stored as rows, but for those that are listed in rejected.", "NdjsonRows"),
      202: answer("Durable on the event log; positions: not known to be stored within 10 s.", "NdjsonRows"),
      ...refusals("Error"),
    },
  },
};

function notTaken(operationId: string, summary: string, content: object) {
  const responses = { 404: { description: "In a shape that the protocol's clients read.", content } };
  return { post: { operationId, summary, security: OPEN, responses } };
}

const jsonOf = (schema: keyof typeof SCHEMAS) => answer("", schema).content;
const [otlp, remoteWrite, influx, mixpanel] = [
  notTaken("otlp", "OTLP is not taken", jsonOf("OtlpStatus")),
  notTaken("remoteWrite", "Prometheus remote write is not taken", { "text/plain": { schema: { type: "string" } } }),
  notTaken("influx", "InfluxDB's line protocol over HTTP is not taken", jsonOf("InfluxError")),
  notTaken("mixpanel", "Mixpanel's protocol is not taken", jsonOf("MixpanelError")),
];

const batches: readonly string[] = WIRES.segment.paths.filter((path) => /\/(?:batch|import|b)$/.test(path));
const messages = WIRES.segment.paths.filter((path) => !batches.includes(path));
const [settingsPath, ...sourcePaths] = WIRES.segmentSettings.paths;

export const WIRE_PATHS = {
  ...samePath(batches, segmentBatch),
  ...samePath(messages, segmentMessage),
  ...samePath(WIRES.jitsu.paths, jitsu),
  [settingsPath]: segmentSettings,
  ...samePath(sourcePaths, rudderSource),
  ...samePath(WIRES.cloudevents.paths, cloudevents),
  ...samePath(WIRES.ndjson.paths, ndjson),
  ...samePath(["/v1/logs", "/v1/metrics", "/v1/traces"], otlp as object),
  "/api/v1/write": remoteWrite,
  ...samePath(["/write", "/api/v2/write"], influx as object),
  ...samePath(["/groups", "/import"], mixpanel as object),
};
