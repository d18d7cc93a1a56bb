// EventService over Connect, gRPC and gRPC-Web: messages to EventInputs, verdicts to answers, failures to Connect codes.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  type Event,
  EventService,
  type PublishRequest,
  type PublishResponse,
  PublishResponseSchema,
  type PublishStreamRequest,
  PublishStreamResponseSchema,
  RejectionCode,
} from "#gen/millrace/events/v1/events_pb.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import type { EventInput, EventTime, FieldNames } from "#lib/events/validate.ts";
import type { Lease } from "../admission.ts";
import type { Entry } from "../edge.ts";
import { type Ingest, IngestUnavailableError, type Rejection, type Verdict } from "../ingest.ts";
import { NO_EVENTS, refused } from "../refusals.ts";

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

/** What is asked about the port names a service or a symbol, nothing more. */
const OPEN_BYTES_MAX = 4096;

export interface EventServiceOptions {
  ingest: Ingest;
  maxEvents: number;
}

/** What a call was let in with. */
export interface RpcCall {
  entry: Pick<Entry, "admit" | "dialect" | typeof Symbol.dispose> & { lease: Omit<Lease, "moveTo"> };
  traceparent: string | undefined;
}

/**
 * Of a health check or a question about the port's services, which need neither key nor room: load balancers have none, and
 * a full gateway is healthy.
 */
export function openEntry(dialect: string): RpcCall["entry"] {
  let held = 0;
  return {
    dialect,
    lease: {
      grow(bytes) {
        held += bytes;
        return held <= OPEN_BYTES_MAX;
      },
      reset() {},
      release() {},
    },
    admit() {
      throw new Error("a call without a key has no events");
    },
    [Symbol.dispose]() {},
  };
}

export function registerEventService(
  router: ConnectRouter,
  callOf: (context: HandlerContext) => RpcCall,
  options: EventServiceOptions,
): void {
  router.service(EventService, {
    async publish(request, context) {
      return toResponse(await publishMessage(request, callOf(context), options));
    },
    async *publishStream(requests, context) {
      const call = callOf(context);
      for await (const request of untilStopped(requests, context)) {
        const verdict = await publishMessage(request, call, options);
        // Before the answer: a caller who does not read it must not hold the message by that.
        call.entry.lease.reset();
        yield create(PublishStreamResponseSchema, {
          sequence: request.sequence,
          accepted: verdict.accepted,
          rejected: verdict.rejected.map(toMessage),
          positions: verdict.positions ?? [],
        });
      }
    },
  });
}

function publishMessage(
  request: PublishRequest | PublishStreamRequest,
  call: RpcCall,
  options: EventServiceOptions,
): Promise<Verdict> {
  const { events, checkStored, returnPositions } = request;
  const { length: count } = events;
  const published = publishEvents(
    { count, checkStored, returnPositions, read: () => events.map(readEvent) },
    call,
    options,
  );
  // The library keeps the message until it is answered; what is in it is in the records by now.
  request.events = [];
  return published;
}

/** What a message asks for, whoever has read it. */
export interface PublishOrder {
  count: number;
  checkStored: boolean;
  returnPositions: boolean;
  /** Called when that many are let in. */
  read(): (EventInput | RuleFault)[];
}

/** Throws Refused. */
export function publishEvents(
  { count, checkStored, returnPositions: wantsPositions, read }: PublishOrder,
  { entry, traceparent }: RpcCall,
  { ingest, maxEvents: max }: EventServiceOptions,
): Promise<Verdict> {
  if (count === 0) throw refused("invalid", { field: "events", fault: NO_EVENTS });
  if (count > max) throw refused("too_many", { field: "events", count, max });
  const facts = entry.admit(count, checkStored);
  const order = { events: read(), names: FIELD_NAMES, facts, dialect: entry.dialect, traceparent, wantsPositions };
  return toldUnavailable(ingest.publish(order));
}

export function toResponse({ accepted, rejected, positions = [] }: Verdict): PublishResponse {
  return create(PublishResponseSchema, { accepted, rejected: rejected.map(toMessage), positions });
}

async function toldUnavailable(published: Promise<Verdict>): Promise<Verdict> {
  try {
    return await published;
  } catch (error) {
    throw error instanceof IngestUnavailableError ? refused("log_away", { ids: "ids" }, error) : error;
  }
}

export function readEvent(event: Event): EventInput | RuleFault {
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
    time: event.time && timeOf(event.time.seconds, nanos),
    properties: kind.value,
  };
}

/** Of a Timestamp. */
export function timeOf(wholeSeconds: bigint | number, nanos: number): EventTime {
  const seconds = Number(wholeSeconds);
  return {
    us: seconds * 1e6 + Math.floor(nanos / 1000),
    text() {
      const date = new Date(seconds * 1000);
      const fraction = nanos === 0 ? "" : `.${String(nanos).padStart(9, "0")}`;
      // Years beyond Date's range cannot come from RFC 3339 text; the seconds say what was sent.
      return Number.isNaN(date.getTime()) ? `${wholeSeconds}s` : `${date.toISOString().slice(0, -5)}${fraction}Z`;
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
