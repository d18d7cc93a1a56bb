// Paths of protocols that Millrace does not take: a 404 whose sentence the protocol's own client can read, and shows. Nothing
// of the request is read.
import { mediaType } from "#lib/http/body.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import { Reply, type Wire } from "../wire.ts";

const POINTS = "points come in through a relay or millrace agent";
const [JSON_TYPE, TEXT, PROTOBUF] = [
  "application/json; charset=utf-8",
  "text/plain; charset=utf-8",
  "application/x-protobuf",
];
/** google.rpc.Code. */
const UNIMPLEMENTED = 12;

interface Protocol {
  paths: readonly string[];
  sentence: string;
  shape(sentence: string, request: HttpRequest): { type: string; body: string };
}

export const NOT_TAKEN: readonly Protocol[] = [
  {
    paths: ["/v1/logs", "/v1/metrics", "/v1/traces"],
    sentence: `OTLP is not taken: send CloudEvents to POST /events; ${POINTS}`,
    shape: (sentence, request) => {
      if (mediaType(request) === PROTOBUF) return { type: PROTOBUF, body: statusMessage(sentence) };
      return { type: JSON_TYPE, body: JSON.stringify({ code: UNIMPLEMENTED, message: sentence }) };
    },
  },
  {
    paths: ["/api/v1/write"],
    sentence: `Prometheus remote write is not taken: ${POINTS}`,
    shape: (sentence) => ({ type: TEXT, body: `${sentence}\n` }),
  },
  {
    paths: ["/write", "/api/v2/write"],
    sentence: `InfluxDB line protocol is not taken over HTTP: ${POINTS}`,
    // Version 2 reads code and message, version 1 error.
    shape: (sentence) => ({
      type: JSON_TYPE,
      body: JSON.stringify({ code: "not found", message: sentence, error: sentence }),
    }),
  },
  {
    paths: ["/groups", "/import"],
    sentence: "Mixpanel's protocol is not taken: send PostHog's or Segment's; docs/switching.md says how",
    shape: (sentence) => ({ type: JSON_TYPE, body: JSON.stringify({ status: 0, code: 404, error: sentence }) }),
  },
];

const BY_PATH = new Map(NOT_TAKEN.flatMap((protocol) => protocol.paths.map((path) => [path, protocol] as const)));

export const NOT_TAKEN_WIRE: Wire = {
  async answer(request, { path }) {
    const { sentence, shape } = BY_PATH.get(path) as Protocol;
    const { type, body } = shape(sentence, request);
    return new Reply(404, body, { "content-type": type });
  },
  refusalBody: ({ message }) => ({ error: message }),
};

/** google.rpc.Status as protobuf: with a sentence of ASCII below 128 bytes it is text. */
function statusMessage(sentence: string): string {
  return `\b${String.fromCharCode(UNIMPLEMENTED)}\x12${String.fromCharCode(sentence.length)}${sentence}`;
}
