// One batch of events → the gateway, until every event of it is durable or refused for good.

import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import {
  type Event,
  EventService,
  PublishRequestSchema,
  type PublishResponse,
} from "#gen/millrace/events/v1/events_pb.ts";

export interface Refusal {
  /** Position in the events that were handed over. */
  index: number;
  reason: string;
}

export interface Publisher {
  /**
   * Resolves with the events that will never be taken; all others are durable then. Transient failures are retried
   * until `signal` fires. `checkStored`: an earlier run may have sent some of these. Rejects with PublishError, or with
   * the signal's reason.
   */
  publish(events: readonly Event[], checkStored: boolean, signal: AbortSignal): Promise<Refusal[]>;
}

/** The gateway will not take anything from this import; the message says what to do. */
export class PublishError extends Error {
  override readonly name = "PublishError";
}

export interface PublisherOptions {
  /** Address of the gateway. */
  url: string;
  apiKey: string | undefined;
  /** Called before each wait for another try. */
  onRetry(reason: string, delayMs: number): void;
}

const requestTimeoutMs = 60_000;
const backoffBaseMs = 200;
const backoffMsMax = 15_000;

// The consumer recognises a repeated id for an hour, but for no more than two million events a partition, and other
// callers fill that in minutes at full load. After a minute of not knowing, the id is looked up in the tables instead.
const unknownOutcomeMsMax = 60_000;

// A gateway that is full says when to come back. One that does not, says by the same code that the request is too large
// for it; a single event below this cannot be what is meant.
const tooLargeBytesMin = 64 * 1024;

export function createPublisher({ url, apiKey, onRetry }: PublisherOptions): Publisher {
  const authorize: Interceptor = (next) => (request) => {
    if (apiKey !== undefined) request.header.set("authorization", `Bearer ${apiKey}`);
    return next(request);
  };
  const transport = createConnectTransport({ baseUrl: url, httpVersion: "1.1", interceptors: [authorize] });
  const client = createClient(EventService, transport);

  const wait = async (reason: string, attempt: number, atLeastMs: number, signal: AbortSignal): Promise<void> => {
    const ceiling = Math.min(backoffMsMax, backoffBaseMs * 2 ** Math.min(attempt, 10));
    const delayMs = atLeastMs + ceiling * (0.5 + Math.random() / 2);
    onRetry(reason, delayMs);
    await sleep(delayMs, undefined, { signal });
  };

  const publish: Publisher["publish"] = async (events, checkStored, signal) => {
    const refused: Refusal[] = [];
    let pending = [...events.keys()];
    let unknownSince: Age | undefined;
    for (let attempt = 0; pending.length > 0; attempt += 1) {
      const batch = pending.map((index) => events[index]).filter((event) => event !== undefined);
      const isForgotten = unknownSince !== undefined && unknownSince.ms() > unknownOutcomeMsMax;
      const request = create(PublishRequestSchema, { events: batch, checkStored: checkStored || isForgotten });
      const sent = createAge();
      let response: PublishResponse;
      try {
        response = await client.publish(request, { signal, timeoutMs: requestTimeoutMs });
      } catch (error) {
        signal.throwIfAborted();
        const failure = ConnectError.from(error);
        const retryAfterMs = retryAfterOf(failure);
        if (failure.code === Code.ResourceExhausted && retryAfterMs === undefined) {
          const check = checkStored || unknownSince !== undefined;
          const halves = await publishHalves(publish, events, pending, check, signal);
          if (halves !== undefined) return [...refused, ...halves].sort((a, b) => a.index - b.index);
        }
        if (isFinal(failure.code)) throw finalError(url, failure);
        // ResourceExhausted is decided before anything is appended; after all others the events may be on the log.
        if (failure.code !== Code.ResourceExhausted) unknownSince ??= sent;
        await wait(`${url}: ${failure.message}`, attempt, retryAfterMs ?? 0, signal);
        continue;
      }
      const { again, final } = sortRejections(response, pending, url);
      refused.push(...final);
      // The log not having answered in time does not mean that it will not have the event.
      if (again.length > 0) unknownSince ??= sent;
      if (again.length > 0) await wait(again[0]?.reason ?? "", attempt, 0, signal);
      pending = again.map(({ index }) => index);
    }
    return refused.sort((a, b) => a.index - b.index);
  };

  return { publish };
}

/** Sends each half by itself; undefined when the request cannot have been refused for its size. */
async function publishHalves(
  publish: Publisher["publish"],
  events: readonly Event[],
  pending: readonly number[],
  checkStored: boolean,
  signal: AbortSignal,
): Promise<Refusal[] | undefined> {
  const [only] = pending;
  if (only === undefined) return undefined;
  if (pending.length === 1) {
    const isLarge = sizeOf(events[only]) >= tooLargeBytesMin;
    return isLarge ? [{ index: only, reason: "is larger than the gateway takes" }] : undefined;
  }
  const middle = Math.ceil(pending.length / 2);
  const refused: Refusal[] = [];
  for (const half of [pending.slice(0, middle), pending.slice(middle)]) {
    const part = half.map((index) => events[index]).filter((event) => event !== undefined);
    for (const { index, reason } of await publish(part, checkStored, signal)) {
      refused.push({ index: half[index] ?? only, reason });
    }
  }
  return refused;
}

interface Age {
  ms(): number;
}

/** The monotonic clock stands still while a laptop sleeps and the wall clock may be set back: the larger one is right. */
function createAge(): Age {
  const [wall, monotonic] = [Date.now(), performance.now()];
  return { ms: () => Math.max(Date.now() - wall, performance.now() - monotonic) };
}

function sizeOf(event: Event | undefined): number {
  return event?.propertiesKind.case === "propertiesJson" ? event.propertiesKind.value.length : 0;
}

function sortRejections(response: PublishResponse, pending: readonly number[], url: string) {
  const again: Refusal[] = [];
  const final: Refusal[] = [];
  if (response.accepted + response.rejected.length !== pending.length) {
    const answered = response.accepted + response.rejected.length;
    throw new PublishError(`${url} answered for ${answered} of ${pending.length} events: is it a Millrace gateway?`);
  }
  for (const { index, field, message, retryable } of response.rejected) {
    const own = pending[index];
    if (own === undefined)
      throw new PublishError(`${url} refused event ${index} of ${pending.length}: not a gateway's answer`);
    (retryable ? again : final).push({ index: own, reason: field === "" ? message : `${field}: ${message}` });
  }
  return { again, final };
}

function isFinal(code: Code): boolean {
  switch (code) {
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.AlreadyExists:
    case Code.PermissionDenied:
    case Code.FailedPrecondition:
    case Code.OutOfRange:
    case Code.Unimplemented:
    case Code.Unauthenticated:
      return true;
    default:
      return false;
  }
}

function finalError(url: string, failure: ConnectError): PublishError {
  const remedies: Partial<Record<Code, string>> = {
    [Code.Unauthenticated]: "give its key with --api-key or MILLRACE_API_KEY",
    [Code.PermissionDenied]: "this key may not publish; give another one with --api-key or MILLRACE_API_KEY",
    [Code.Unimplemented]: "no Millrace gateway is there; name it with --url",
    [Code.NotFound]: "no Millrace gateway is there; name it with --url",
  };
  const remedy = remedies[failure.code];
  const text = `${url} refuses the import: ${failure.rawMessage}${remedy === undefined ? "" : ` (${remedy})`}`;
  return new PublishError(text, { cause: failure });
}

/** Milliseconds, from seconds or a date; undefined when absent. */
function retryAfterOf(failure: ConnectError): number | undefined {
  const text = failure.metadata.get("retry-after");
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}
