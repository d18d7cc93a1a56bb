// Events as requests to a gateway, and what its answers say about each of them.
import http from "node:http";
import type { LoadEvent } from "./event-source.ts";

/** Beyond that a caller gives up and asks the other gateway. The first one may still have the request. */
const REQUEST_MS_MAX = 5_000;

export interface Way {
  agent: http.Agent;
  port: number;
  signal: AbortSignal;
}

/** "acked", "again", or why the event was refused for good. */
export type Verdict = "acked" | "again" | (string & {});

export type Send = (way: Way, events: readonly LoadEvent[]) => Promise<Verdict[]>;

/** One request of EventService/Publish for all of them. */
export async function sendBatch(way: Way, events: readonly LoadEvent[]): Promise<Verdict[]> {
  const body = {
    events: events.map(({ value, ...event }) => ({
      ...event,
      value,
      propertiesJson: JSON.stringify(propertiesOf(value)),
    })),
  };
  const answer = await post(way, "/millrace.events.v1.EventService/Publish", body);
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
export async function sendSingle(way: Way, events: readonly LoadEvent[]): Promise<Verdict[]> {
  const [{ id, event, distinctId, source, value }] = events as [LoadEvent];
  const created_at = new Date().toISOString();
  const body = {
    id,
    event_type: event,
    user_id: distinctId,
    source,
    value,
    created_at,
    properties: propertiesOf(value),
  };
  const answer = await post(way, "/events", body);
  return [answer?.status === 200 ? "acked" : verdictOf(answer)];
}

function propertiesOf(n: number): Record<string, unknown> {
  return { n, $current_url: "https://shop.example/products/17?ref=mail", plan: "pro", price: 12.5, browser: "Firefox" };
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
function post({ agent, port, signal }: Way, path: string, body: unknown): Promise<Answer | undefined> {
  const bytes = Buffer.from(JSON.stringify(body));
  const headers = { "content-type": "application/json", "content-length": String(bytes.length) };
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
