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
import { type Ingest, IngestUnavailableError, type Rejection, type Verdict } from "../ingest.ts";
import { callOf, type RpcCall } from "./rpc-call.ts";

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

export interface ConnectDialectOptions {
  ingest: Ingest;
  maxEvents: number;
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
        yield create(PublishStreamResponseSchema, {
          sequence: request.sequence,
          accepted: verdict.accepted,
          rejected: verdict.rejected.map(toMessage),
        });
        call.lease?.reset();
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
  // A key `__proto__` does not become a key of the object: it replaces the object's prototype.
  if (kind.case === "properties" && Object.getPrototypeOf(kind.value) !== Object.prototype) {
    return fault("invalid", "properties.__proto__", "is not allowed as a key");
  }
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
async function* untilStopped<T>(requests: AsyncIterable<T>, context: HandlerContext): AsyncIterable<T> {
  const iterator = requests[Symbol.asyncIterator]();
  const stopped = new Promise<never>((_, reject) => {
    const stop = () => reject(ConnectError.from(context.signal.reason, Code.Unavailable));
    if (context.signal.aborted) stop();
    else context.signal.addEventListener("abort", stop, { once: true });
  });
  // Nothing waits for it between two messages.
  stopped.catch(() => {});
  for (;;) {
    const next = await Promise.race([iterator.next(), stopped]);
    if (next.done) return;
    yield next.value;
  }
}
