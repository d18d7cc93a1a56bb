// The paths of PostHog's libraries in the OpenAPI document.
import { ANY_KEY, AWAY, answer, body, later, NOT_SUPPORTED, OPEN, samePath, TOO_FAST } from "./openapi-parts.ts";
import { WIRES } from "./wire-table.ts";

const METHOD = answer("Another method.", "PostHogError");
const KEY_PARAMETER = [{ name: "key", in: "path", required: true, schema: { type: "string" } }] as const;

const capture = {
  post: {
    operationId: "postHogCapture",
    summary: "Stores events of PostHog's libraries: one, an array, or a batch",
    description:
      "The body may also be gzip without a header, base64, or a form whose field data is either. A key may be in the body (api_key, token, token among the properties), and a listed Origin needs none.",
    security: ANY_KEY,
    requestBody: body("PostHogBody"),
    responses: {
      200: answer("Durable on the event log, but for those that are listed in rejected.", "PostHogAccepted"),
      400: answer("No event that can be taken, no event at all, two keys, bytes that are not JSON.", "PostHogError"),
      401: answer("No key, or an unknown one.", "PostHogError"),
      403: answer("An Origin that is not in ALLOWED_ORIGINS.", "PostHogError"),
      405: METHOD,
      413: answer("Over MAX_BATCH_BYTES or MAX_EVENTS_PER_BATCH.", "PostHogError"),
      415: answer(`${NOT_SUPPORTED} Or another ?compression=.`, "PostHogError"),
      429: later(TOO_FAST, "PostHogError"),
      503: later(`${AWAY} Send the events again with the same uuids.`, "PostHogError"),
    },
  },
};

const captureV1 = {
  post: {
    operationId: "postHogAnalyticsEvents",
    summary: "Stores events of PostHog's libraries in capture mode v1, with a result for each",
    description: "An event without a uuid is stored, and has no result.",
    security: ANY_KEY,
    requestBody: body("PostHogV1Batch"),
    responses: {
      200: answer(
        "ok: durable. drop: invalid, see details. retry: send it again after Retry-After.",
        "PostHogV1Results",
      ),
      400: answer("No event at all, or bytes that are not JSON.", "PostHogError"),
      401: answer("No key, or an unknown one.", "PostHogError"),
      405: METHOD,
      413: answer("Over MAX_BATCH_BYTES or MAX_EVENTS_PER_BATCH.", "PostHogError"),
      415: answer(NOT_SUPPORTED, "PostHogError"),
      429: later(TOO_FAST, "PostHogError"),
    },
  },
};

const flags = {
  post: {
    operationId: "postHogFlags",
    summary: "Feature flags: there are none",
    security: ANY_KEY,
    requestBody: body("PostHogFlagsRequest"),
    responses: {
      200: answer("No flags, and no error.", "PostHogFlags"),
      400: answer("Bytes that are not JSON.", "PostHogError"),
      401: answer("No key, or an unknown one.", "PostHogError"),
      403: answer("An Origin that is not in ALLOWED_ORIGINS.", "PostHogError"),
      405: METHOD,
      413: answer("Over MAX_BATCH_BYTES.", "PostHogError"),
      415: answer(NOT_SUPPORTED, "PostHogError"),
    },
  },
};

const config = {
  get: {
    operationId: "postHogConfig",
    summary: "Settings of posthog-js: autocapture, and nothing else that PostHog's servers do",
    security: OPEN,
    parameters: KEY_PARAMETER,
    responses: { 200: answer("The same for every key.", "PostHogConfig") },
  },
};

const configScript = {
  get: {
    ...config.get,
    operationId: "postHogConfigScript",
    summary: "The same as a script",
    responses: {
      200: { description: "A script.", content: { "text/javascript": { schema: { type: "string" } } } },
    },
  },
};

const replay = {
  post: {
    operationId: "postHogReplay",
    summary: "Recordings of sessions are not taken: nothing of the body is read",
    security: OPEN,
    responses: { 200: answer("posthog-js stops sending them.", "PostHogReplay"), 405: METHOD },
  },
};

const [configPath, scriptPath] = WIRES.posthogConfig.paths;

export const POSTHOG_PATHS = {
  ...samePath(WIRES.posthog.paths, capture),
  ...samePath(WIRES.posthogV1.paths, captureV1),
  ...samePath(WIRES.posthogFlags.paths, flags),
  [configPath]: config,
  [scriptPath]: configScript,
  ...samePath(WIRES.posthogReplay.paths, replay),
};
