// GET /openapi.json: the routes that plain HTTP can reach. test/component/openapi.test.ts calls each of them and compares
// the answers with this, and this with the routes that the code has.

import { sendJson } from "#lib/http/answers.ts";
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";
import { packageVersion } from "#lib/process/version.ts";
import { ANY_KEY, AWAY, answer, body, later, NOT_SUPPORTED, OPEN, TOO_FAST } from "./openapi-parts.ts";
import { POSTHOG_PATHS } from "./openapi-posthog.ts";
import { SCHEMAS } from "./openapi-schemas.ts";
import { WIRE_PATHS } from "./openapi-wires.ts";

const events = {
  post: {
    operationId: "postEvent",
    summary: "Stores one event",
    description:
      "Other methods are answered by 405. A CloudEvent is taken as well, and answered as on POST /cloudevents.",
    security: ANY_KEY,
    requestBody: body("SingleEvent"),
    responses: {
      200: answer("Durable on the event log.", "Accepted"),
      204: { description: "A CloudEvent, durable on the event log." },
      400: answer("Not JSON, or a field is invalid.", "Error"),
      401: answer("No key, or an unknown one.", "Error"),
      413: answer("Larger than MAX_BATCH_BYTES, or the event than its limits.", "Error"),
      415: answer(NOT_SUPPORTED, "Error"),
      429: later(TOO_FAST, "Error"),
      503: later(AWAY, "Error"),
    },
  },
};

const batch = {
  post: {
    operationId: "postBatch",
    summary: "Stores events of product-analytics clients",
    description: "Other methods are answered by 404. A key may also be in the body, and a listed Origin needs none.",
    security: ANY_KEY,
    requestBody: body("Batch"),
    responses: {
      200: answer("Durable on the event log, but for those that are dropped for being invalid.", "BatchAccepted"),
      400: answer("No event that can be taken, an empty batch, two keys, bytes that are not JSON.", "BatchError"),
      401: answer("No key, or an unknown one.", "BatchError"),
      403: answer("An Origin that is not in ALLOWED_ORIGINS.", "BatchError"),
      413: answer("Over MAX_BATCH_BYTES or MAX_EVENTS_PER_BATCH.", "BatchError"),
      415: answer(NOT_SUPPORTED, "BatchError"),
      429: later(TOO_FAST, "BatchError"),
      503: later(`${AWAY} Send the batch again with the same uuids.`, "BatchError"),
    },
  },
};

const publish = {
  post: {
    operationId: "publish",
    summary: "Stores events; an invalid event does not fail the others",
    description: "The unary call of the Connect protocol as JSON. The same path speaks gRPC and gRPC-Web.",
    security: ANY_KEY,
    requestBody: body("PublishRequest"),
    responses: {
      200: answer("Every event that is not listed in rejected is durable.", "PublishResponse"),
      400: answer("No JSON of this message, an unknown field, or no events.", "ConnectError"),
      401: answer("No key, or an unknown one.", "ConnectError"),
      415: answer("Another content type.", "ConnectError"),
      429: answer(
        "Over a limit of bytes, of events in one request, or of events a second; then with Retry-After.",
        "ConnectError",
      ),
      503: later("The event log is unavailable: send the request again with the same ids.", "ConnectError"),
    },
  },
};

const healthCheck = {
  post: {
    operationId: "grpcHealthCheck",
    summary: "grpc.health.v1 as JSON: readiness, without a key",
    security: OPEN,
    requestBody: body("HealthCheckRequest"),
    responses: {
      200: answer("Of the gateway (no service named) or of one of its services.", "HealthCheckResponse"),
      400: answer("No JSON of this message, or an unknown field.", "ConnectError"),
      404: answer("Unknown service.", "ConnectError"),
      415: answer("Another content type.", "ConnectError"),
    },
  },
};

const replay = {
  post: {
    operationId: "replayDeadLetters",
    summary: "For millrace dead-letters replay: records that go onto the log as they are",
    description: "Asks for a secret key wherever keys are asked for.",
    security: ANY_KEY,
    requestBody: body("Replay"),
    responses: {
      200: answer("On the log, in this order.", "Replayed"),
      400: answer("No such records.", "Error"),
      401: answer("No key, or an unknown one.", "Error"),
      403: answer("A public key, or a web page.", "Error"),
      413: answer("Over a limit of bytes or records.", "Error"),
      415: answer(NOT_SUPPORTED, "Error"),
      503: later(AWAY, "Error"),
    },
  },
};

const refusedLately = {
  post: {
    operationId: "refusedLately",
    summary: "For the stats service: why events of these ids were refused lately, and sums by reason",
    description: "Asks for a secret key wherever keys are asked for. Contents and keys are not kept.",
    security: ANY_KEY,
    requestBody: body("RefusedRequest"),
    responses: {
      200: answer("What is known, newest first.", "RefusedLately"),
      400: answer("No such ids.", "Error"),
      401: answer("No key, or an unknown one.", "Error"),
      403: answer("A public key, or a web page.", "Error"),
      413: answer("Over a limit of bytes.", "Error"),
      415: answer(NOT_SUPPORTED, "Error"),
    },
  },
};

function get(operationId: string, summary: string, responses: Record<number, object>) {
  return { get: { operationId, summary, security: OPEN, responses } };
}

const METRICS = {
  description: "Metrics in Prometheus' text format.",
  content: { "text/plain": { schema: { type: "string" } } },
};

export const OPENAPI = {
  openapi: "3.1.0",
  info: {
    title: "Millrace gateway",
    version: packageVersion(),
    description:
      "Events over plain HTTP. A success means that the event log has the events. EventService.PublishStream is a stream and has no form here.",
    license: { name: "MIT", identifier: "MIT" },
  },
  paths: {
    "/events": events,
    "/batch/": batch,
    ...POSTHOG_PATHS,
    ...WIRE_PATHS,
    "/millrace.events.v1.EventService/Publish": publish,
    "/grpc.health.v1.Health/Check": healthCheck,
    "/admin/replay": replay,
    "/admin/refused": refusedLately,
    "/health": get("health", "Alive, as product-analytics clients ask", {
      200: answer("Alive.", "Ok"),
      415: answer("An unknown content-encoding, or the query key compression.", "BatchError"),
    }),
    "/healthz": get("alive", "Alive", { 200: answer("Alive.", "Alive") }),
    "/readyz": get("ready", "Can do its job now", {
      200: answer("Ready.", "Readiness"),
      503: answer("Not ready; checks has the reasons.", "Readiness"),
    }),
    "/metrics": get("metrics", "Metrics", { 200: METRICS }),
    "/openapi.json": get("openapi", "This document", { 200: answer("OpenAPI 3.1.", "OpenApi") }),
  },
  components: {
    schemas: SCHEMAS,
    securitySchemes: {
      bearer: { type: "http", scheme: "bearer" },
      basic: { type: "http", scheme: "basic", description: "The key as user." },
      apiKey: { type: "apiKey", in: "header", name: "x-api-key" },
    },
  },
};

/** Answers, and returns the status for the metrics. */
export function sendOpenApi(request: HttpRequest, response: HttpResponse): string {
  if (request.method !== "GET" && request.method !== "HEAD") {
    sendJson(response, 405, { error: "use GET" }, { allow: "GET, HEAD" });
    return "405";
  }
  sendJson(response, 200, OPENAPI);
  return "200";
}
