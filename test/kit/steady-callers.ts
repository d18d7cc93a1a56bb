// Callers that do what the gateway's answers tell them, at a load that stays the same while it refuses: each has one
// request under way, sends it again with the same ids until it is acknowledged, and comes again at its own beat.
import { randomUUID } from "node:crypto";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

export interface CallersOptions {
  port: number;
  eventsPerSecond: number;
  /** Of a request to Publish; every twentieth caller sends single events to POST /events instead. */
  eventsPerRequest?: number;
  /** As many as are needed to keep the load up: one who waits for an answer sends nothing. */
  callers?: number;
}

export interface CallAnswer {
  /** When the answer had come, milliseconds of performance.now(). */
  at: number;
  /** From the request to its answer, milliseconds. */
  ms: number;
  /** HTTP status; 0 when there was no answer. */
  status: number;
  /** "ok", the Connect code, or "none". */
  code: string;
  retryAfter: string | undefined;
}

export interface Callers {
  readonly answers: readonly CallAnswer[];
  /** Ids that the gateway said are durable. */
  readonly acked: ReadonlySet<string>;
  readonly sent: ReadonlySet<string>;
  /** Stops making new events; resolves when all of those sent are acknowledged. */
  finish(): Promise<void>;
  /** Ends whatever the state. */
  [Symbol.dispose](): void;
}

interface Sent {
  path: string;
  body: string;
  ids: string[];
}

interface Rejected {
  /** Absent: 0, as Connect's JSON has it. */
  index?: number;
  retryable?: boolean;
}

const PUBLISH = "/millrace.events.v1.EventService/Publish";
const RETRY_AFTER_MS = 1_000;
const PAD = "x".repeat(220);

export function startCallers(options: CallersOptions): Callers {
  const { port, eventsPerSecond, eventsPerRequest = 100, callers = 300 } = options;
  const agent = new http.Agent({ keepAlive: true, maxSockets: callers });
  const answers: CallAnswer[] = [];
  const acked = new Set<string>();
  const sent = new Set<string>();
  const beatMs = (callers * eventsPerRequest * 1000) / eventsPerSecond;
  const finishing = new AbortController();
  let disposed = false;

  /** Cut short when finishing: then a caller only waits as long as the gateway asks for. */
  async function rest(ms: number): Promise<void> {
    const { signal } = finishing;
    if (!signal.aborted) await sleep(Math.max(0, ms), undefined, { signal }).catch(() => undefined);
  }

  async function caller(number: number): Promise<void> {
    await rest((beatMs * number) / callers);
    while (!finishing.signal.aborted) {
      const request = number % 20 === 0 ? singleEvent() : batchOf(eventsPerRequest);
      for (const id of request.ids) sent.add(id);
      for (let pending: Sent | undefined = request; pending !== undefined && !disposed; ) {
        const begun = performance.now();
        pending = await deliver(pending);
        await rest(beatMs - (performance.now() - begun));
        if (finishing.signal.aborted && pending !== undefined) await sleep(RETRY_AFTER_MS);
      }
    }
  }

  /** Sends once; returns what has to be sent again. */
  async function deliver(request: Sent): Promise<Sent | undefined> {
    const begun = performance.now();
    const { status, retryAfter, text } = await post(port, agent, request);
    const at = performance.now();
    const answer = status === 200 ? (JSON.parse(text) as { rejected?: Rejected[] }) : {};
    answers.push({ at, ms: at - begun, status, code: status === 200 ? "ok" : codeOf(text), retryAfter });
    if (status !== 200) return request;
    const { rejected = [] } = answer;
    if (rejected.some(({ retryable }) => retryable !== true))
      throw new Error(`refused for good: ${text.slice(0, 200)}`);
    const again = new Set(rejected.map(({ index = 0 }) => index));
    for (const [index, id] of request.ids.entries()) if (!again.has(index)) acked.add(id);
    return again.size === 0 ? undefined : partOf(request, again);
  }

  const running = Promise.all(Array.from({ length: callers }, (_, i) => caller(i)));
  running.catch(() => undefined); // finish() tells.
  return {
    answers,
    acked,
    sent,
    async finish() {
      finishing.abort();
      await running;
    },
    [Symbol.dispose]() {
      finishing.abort();
      disposed = true;
      agent.destroy();
    },
  };
}

/** An outage can begin between two partitions: those events of a batch that the log did not take. */
function partOf({ path, ids, body }: Sent, indexes: ReadonlySet<number>): Sent {
  const { events } = JSON.parse(body) as { events: unknown[] };
  const isAmong = (_: unknown, index: number) => indexes.has(index);
  return { path, ids: ids.filter(isAmong), body: JSON.stringify({ events: events.filter(isAmong) }) };
}

function batchOf(count: number): Sent {
  const ids = Array.from({ length: count }, () => randomUUID());
  const properties = { plan: "pro", items: 3, pad: PAD };
  const events = ids.map((id, i) => ({
    id,
    event: "page_view",
    distinctId: `user_${id.slice(0, 3)}`,
    value: i,
    properties,
  }));
  return { path: PUBLISH, body: JSON.stringify({ events }), ids };
}

function singleEvent(): Sent {
  const id = randomUUID();
  const event = { id, event_type: "click", source: "web", created_at: new Date().toISOString(), pad: PAD };
  return { path: "/events", body: JSON.stringify(event), ids: [id] };
}

function post(port: number, agent: http.Agent, { path, body }: Sent) {
  const { promise, resolve } = Promise.withResolvers<{
    status: number;
    retryAfter: string | undefined;
    text: string;
  }>();
  // A connection that broke is an answer that did not come.
  const none = () => resolve({ status: 0, retryAfter: undefined, text: "" });
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
  const request = http.request({ host: "127.0.0.1", port, path, method: "POST", agent, headers });
  request.on("error", none);
  request.on("response", (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", none);
    response.on("end", () => {
      const retryAfter = response.headers["retry-after"];
      resolve({ status: response.statusCode ?? 0, retryAfter, text: Buffer.concat(chunks).toString() });
    });
  });
  request.end(body);
  return promise;
}

function codeOf(text: string): string {
  if (text === "") return "none";
  const { code } = JSON.parse(text) as { code?: string };
  return code ?? "unavailable";
}
