// Events as requests to a gateway, and what its answers say about each of them.
import http from "node:http";
import type { LoadEvent, Way } from "./event-source.ts";

/** Beyond that a caller gives up and asks the other gateway. The first one may still have the request. */
const REQUEST_MS_MAX = 5_000;

export interface Line {
  agent: http.Agent;
  port: number;
  signal: AbortSignal;
}

/** "acked", "again", or why the event was refused for good. */
export type Verdict = "acked" | "again" | (string & {});

/** Events of one key, at least one; a verdict for each. */
type Send = (line: Line, events: readonly LoadEvent[]) => Promise<Verdict[]>;

export const SENDS: Record<Way, Send> = {
  ...{ publish: sendPublish, single: sendSingle, batch: sendBatch, v1: sendV1, segment: sendSegment },
};

/** One request of EventService/Publish for all of them. */
async function sendPublish(line: Line, events: readonly LoadEvent[]): Promise<Verdict[]> {
  const body = {
    events: events.map(({ id, event, distinctId, source, value, timeMs, properties }) => ({
      ...{ id, event, distinctId, source, value, time: timeText(timeMs) },
      propertiesJson: JSON.stringify(properties),
    })),
  };
  const answer = await post(line, "/millrace.events.v1.EventService/Publish", body, keyHeader(events));
  if (answer?.status !== 200) return events.map(() => verdictOf(answer));
  // protojson leaves out what is 0 or false.
  const { rejected = [] } = JSON.parse(answer.body) as {
    rejected?: { index?: number; message?: string; retryable?: boolean }[];
  };
  const verdicts: Verdict[] = events.map(() => "acked");
  for (const { index = 0, message = "", retryable = false } of rejected)
    verdicts[index] = retryable ? "again" : message;
  return verdicts;
}

/** POST /events, for exactly one event. */
async function sendSingle(line: Line, events: readonly LoadEvent[]): Promise<Verdict[]> {
  const [{ id, event, distinctId, source, value, timeMs, properties }] = events as [LoadEvent];
  const names = { event_type: event, user_id: distinctId, created_at: timeText(timeMs) };
  const answer = await post(line, "/events", { id, ...names, source, value, properties }, keyHeader(events));
  return [answer?.status === 200 ? "acked" : verdictOf(answer)];
}

/** POST /batch/, as PostHog's clients send it: the key is in the body. */
async function sendBatch(line: Line, events: readonly LoadEvent[]): Promise<Verdict[]> {
  const batch = events.map(({ id, event, distinctId, timeMs, properties }) => ({
    ...{ uuid: id, event, distinct_id: distinctId, timestamp: timeText(timeMs), properties },
  }));
  const answer = await post(line, "/batch/", { api_key: events[0]?.apiKey, batch });
  if (answer?.status !== 200) return events.map(() => verdictOf(answer));
  const { dropped } = JSON.parse(answer.body) as { dropped: number };
  // It does not say which.
  return events.map(() => (dropped === 0 ? "acked" : `POST /batch/ dropped ${dropped} of ${events.length} events`));
}

/** Capture V1, as PostHog's newer libraries send events: a result for each. */
async function sendV1(line: Line, events: readonly LoadEvent[]): Promise<Verdict[]> {
  const batch = events.map(({ id, event, distinctId, timeMs, properties }) => ({
    ...{ uuid: id, event, distinct_id: distinctId, timestamp: timeText(timeMs), options: {}, properties },
  }));
  const body = { created_at: timeText(Date.now()), batch };
  const answer = await post(line, "/i/v1/analytics/events", body, { authorization: `Bearer ${events[0]?.apiKey}` });
  if (answer?.status !== 200) return events.map(() => verdictOf(answer));
  const { results } = JSON.parse(answer.body) as { results: Record<string, { result: string; details?: string }> };
  return events.map(({ id }) => {
    const { result, details } = results[id] ?? { result: "none", details: `Capture V1 has no result for ${id}` };
    return result === "ok" ? "acked" : result === "retry" ? "again" : (details ?? result);
  });
}

/** POST /v1/batch, as Segment's libraries send messages; without `sentAt`, by which their times would be moved. */
async function sendSegment(line: Line, events: readonly LoadEvent[]): Promise<Verdict[]> {
  const batch = events.map(({ event, distinctId, timeMs, properties }) => ({
    ...{ type: "track", event, userId: distinctId, messageId: properties.messageId },
    ...{ timestamp: timeText(timeMs), context: null, properties },
  }));
  const basic = Buffer.from(`${events[0]?.apiKey}:`).toString("base64");
  const answer = await post(line, "/v1/batch", { batch }, { authorization: `Basic ${basic}` });
  if (answer?.status !== 200) return events.map(() => verdictOf(answer));
  const { rejected = [] } = JSON.parse(answer.body) as { rejected?: { index: number; message: string }[] };
  const verdicts: Verdict[] = events.map(() => "acked");
  for (const { index, message } of rejected) verdicts[index] = message;
  return verdicts;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

function keyHeader(events: readonly LoadEvent[]): Record<string, string> {
  return { "x-api-key": events[0]?.apiKey ?? "" };
}

interface Answer {
  status: number;
  body: string;
}

function verdictOf(answer: Answer | undefined): Verdict {
  if (answer === undefined) return "again";
  const { status, body } = answer;
  return status === 429 || status >= 500 ? "again" : `${status} ${body.slice(0, 300)}`;
}

/** Undefined: there was no answer, or not all of it; what became of the request is not known. */
function post(
  { agent, port, signal }: Line,
  path: string,
  body: unknown,
  more: Record<string, string> = {},
): Promise<Answer | undefined> {
  const bytes = Buffer.from(JSON.stringify(body));
  const headers = { ...more, "content-type": "application/json", "content-length": String(bytes.length) };
  const over = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS_MAX)]);
  return new Promise((resolve) => {
    const request = http.request({ host: "127.0.0.1", port, path, method: "POST", agent, headers, signal: over });
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
      response.on("error", () => resolve(undefined));
    });
    request.on("error", () => resolve(undefined));
    request.end(bytes);
  });
}
