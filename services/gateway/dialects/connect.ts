// EventService over Connect, gRPC and gRPC-Web: messages to EventInputs, verdicts to answers, failures to Connect codes.
import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  type Event,
  EventService,
  type PublishRequest,
  PublishResponseSchema,
  type PublishStreamRequest,
  PublishStreamResponseSchema,
  RejectionCode,
} from "#gen/millrace/events/v1/events_pb.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import type { EventInput, EventTime, FieldNames } from "#lib/events/validate.ts";
import { RETRY_AFTER_SECONDS } from "../admission.ts";
import { rateLimitedText } from "../http-request.ts";
import { type Ingest, IngestUnavailableError, type Rejection, type Verdict } from "../ingest.ts";
import type { RateLimit } from "../rate-limit.ts";
import { callOf, type RpcCall, tooBusy, tooFast } from "./rpc-call.ts";

const FIELD_NAMES: FieldNames = {
  id: "id",
  event: "event",
  distinctId: "distinct_id",
  source: "source",
  value: "value",
  properties: "properties",
};

const REJECTION_CODES: Record<Rejection["code"], RejectionCode> = {
  missing: RejectionCode.MISSING,
  invalid: RejectionCode.INVALID,
  too_large: RejectionCode.TOO_LARGE,
  too_complex: RejectionCode.TOO_COMPLEX,
  unavailable: RejectionCode.UNAVAILABLE,
};

/** What an event waiting for the log costs beyond its bytes: 10,000 events of 5 bytes are 50 kB to read, 3 MB to hold. */
const EVENT_OVERHEAD_BYTES = 256;

export interface ConnectDialectOptions {
  ingest: Ingest;
  maxEvents: number;
  rateLimit: RateLimit;
  nowMs: () => number;
}

export function registerEventService(router: ConnectRouter, options: ConnectDialectOptions): void {
  router.service(EventService, {
    async publish(request, context) {
      const verdict = await publishMessage(request, callOf(context), options);
      return create(PublishResponseSchema, { accepted: verdict.accepted, rejected: verdict.rejected.map(toMessage) });
    },
    async *publishStream(requests, context) {
      const call = callOf(context);
      for await (const request of untilStopped(requests, context)) {
        const verdict = await publishMessage(request, call, options);
        // Before the answer: a caller who does not read it must not hold the message by that.
        call.lease?.reset();
        yield create(PublishStreamResponseSchema, {
          sequence: request.sequence,
          accepted: verdict.accepted,
          rejected: verdict.rejected.map(toMessage),
        });
      }
    },
  });
}

async function publishMessage(
  request: PublishRequest | PublishStreamRequest,
  call: RpcCall,
  options: ConnectDialectOptions,
): Promise<Verdict> {
  const { events } = request;
  if (events.length === 0) throw new ConnectError("events: must have at least one event", Code.InvalidArgument);
  if (events.length > options.maxEvents) {
    const message = `events: has ${events.length} events; one request may have ${options.maxEvents}`;
    throw new ConnectError(message, Code.ResourceExhausted);
  }
  const { address, apiKey: key, dialect } = call;
  const waitSeconds = options.rateLimit.take({ key, address, dialect }, events.length);
  if (waitSeconds > 0) throw tooFast(rateLimitedText(waitSeconds), waitSeconds);
  if (call.lease?.grow(events.length * EVENT_OVERHEAD_BYTES) === false) throw tooBusy();
  const receivedUs = options.nowMs() * 1000;
  try {
    return await options.ingest.publish({
      events: events.map(readEvent),
      names: FIELD_NAMES,
      facts: {
        receivedUs,
        apiKey: call.apiKey,
        ip: call.ip,
        userAgent: call.userAgent,
        checkStored: request.checkStored,
        trusted: call.trusted,
      },
      dialect: call.dialect,
      traceparent: call.traceparent,
    });
  } catch (error) {
    if (!(error instanceof IngestUnavailableError)) throw error;
    const retryAfter = { "retry-after": String(RETRY_AFTER_SECONDS) };
    throw new ConnectError(error.message, Code.Unavailable, retryAfter, undefined, error);
  }
}

function readEvent(event: Event): EventInput | RuleFault {
  const { propertiesKind: kind } = event;
  const nanos = event.time?.nanos ?? 0;
  if (nanos < 0 || nanos > 999_999_999)
    return fault("invalid", "time", `has ${nanos} nanos; 0 to 999999999 are a second`);
  return {
    id: event.id,
    event: event.event,
    distinctId: event.distinctId,
    source: event.source,
    value: event.value,
    time: event.time && readTime(event.time),
    properties: kind.value,
  };
}

function readTime(time: Timestamp): EventTime {
  const seconds = Number(time.seconds);
  return {
    us: seconds * 1e6 + Math.floor(time.nanos / 1000),
    text() {
      const date = new Date(seconds * 1000);
      const fraction = time.nanos === 0 ? "" : `.${String(time.nanos).padStart(9, "0")}`;
      // Years beyond Date's range cannot come from RFC 3339 text; the seconds say what was sent.
      return Number.isNaN(date.getTime()) ? `${time.seconds}s` : `${date.toISOString().slice(0, -5)}${fraction}Z`;
    },
  };
}

function toMessage(rejection: Rejection) {
  return { $typeName: "millrace.events.v1.Rejection" as const, ...rejection, code: REJECTION_CODES[rejection.code] };
}

/** The requests of a stream, until it ends or the call is aborted: a stream must not outlive the gateway's stop. */
async function* untilStopped<T>(requests: AsyncIterable<T>, { signal }: HandlerContext): AsyncIterable<T> {
  const iterator = requests[Symbol.asyncIterator]();
  for (;;) {
    const next = await unlessAborted(iterator.next(), signal);
    if (next.done) return;
    yield next.value;
  }
}

/** Listens for one message only: a promise raced by all of them would keep each alive as long as the stream. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const stop = () => reject(ConnectError.from(signal.reason, Code.Unavailable));
  work.then(resolve, reject);
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  return promise.finally(() => signal.removeEventListener("abort", stop));
}
