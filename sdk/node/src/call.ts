// One Publish request, and what its answer means for the events in it.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  EventService,
  PublishRequestSchema,
  type PublishResponse,
  RejectionCode,
} from "../../../gen/millrace/events/v1/events_pb.ts";
import { countOf, type Frames } from "./frames.ts";

/** Why one event was not stored. */
export interface EventRejection {
  /** Position in the events that were handed over. */
  index: number;
  code: "missing" | "invalid" | "too_large" | "too_complex" | "unavailable" | "unspecified";
  /** Path of the field: "event", "properties.cart.items"; "" when it is none in particular. */
  field: string;
  message: string;
  /** True: the same event may be taken later. */
  retryable: boolean;
}

export type Outcome =
  /** Each event that is not listed is durable. */
  | { kind: "verdicts"; rejected: EventRejection[] }
  /** Nothing is known; `isDoubtful`: some of it may be on the log all the same. */
  | { kind: "later"; error: ConnectError; afterMs: number; isDoubtful: boolean }
  /** `isCertain`: said of this request, and not perhaps of a gateway that is busy. */
  | { kind: "too large"; error: ConnectError; isCertain: boolean }
  /** The request as such cannot be read; one of its events may be why. */
  | { kind: "unreadable"; error: ConnectError }
  /** Wrong key, wrong address, no gateway: a person has to do something. */
  | { kind: "refused"; error: ConnectError };

/** Rejects only with the signal's reason. */
export type PublishCall = (frames: Frames, checkStored: boolean, signal: AbortSignal) => Promise<Outcome>;

const LENGTH_DELIMITED = 2;
/** An answer that asks for more is taken for a mistake. */
const RETRY_AFTER_MS_MAX = 10 * 60_000;

const CODES: Record<number, EventRejection["code"]> = {
  [RejectionCode.MISSING]: "missing",
  [RejectionCode.INVALID]: "invalid",
  [RejectionCode.TOO_LARGE]: "too_large",
  [RejectionCode.TOO_COMPLEX]: "too_complex",
  [RejectionCode.UNAVAILABLE]: "unavailable",
};

export function createPublishCall(transport: Transport, timeoutMs: number): PublishCall {
  const client = createClient(EventService, transport);
  return async (frames, checkStored, signal) => {
    signal.throwIfAborted();
    const request = create(PublishRequestSchema, { checkStored });
    // The events are bytes already. An unknown field is written as its tag and then as it stands, so that the bytes behind
    // the first event's tag carry all events into the request without another encoding.
    request.$unknown = [{ no: 1, wireType: LENGTH_DELIMITED, data: frames.bytes.subarray(1) }];
    try {
      return readVerdicts(await client.publish(request, { signal, timeoutMs }), countOf(frames));
    } catch (error) {
      signal.throwIfAborted();
      return readFailure(ConnectError.from(error));
    }
  };
}

function readVerdicts(response: PublishResponse, count: number): Outcome {
  const { accepted, rejected } = response;
  if (accepted + rejected.length !== count || rejected.some(({ index }) => index < 0 || index >= count)) {
    const answered = accepted + rejected.length;
    const message = `the answer speaks of ${answered} events, ${count} were sent: is it a Millrace gateway?`;
    return { kind: "refused", error: new ConnectError(message, Code.DataLoss) };
  }
  const verdicts = rejected.map(({ index, code, field, message, retryable }) => ({
    index,
    code: CODES[code] ?? ("unspecified" as const),
    field,
    message,
    retryable,
  }));
  return { kind: "verdicts", rejected: verdicts };
}

const SPEAKS_OF_SIZE = /too large|larger than|exceeds|decodes to more/i;
const MESSAGE_CHARS_READ = 500;

function readFailure(error: ConnectError): Outcome {
  // A proxy answers in plain HTTP; what is left of that is the message.
  if (error.rawMessage === "HTTP 413") return { kind: "too large", error, isCertain: true };
  // What a gateway says comes with headers. Without, the code is the client's own about bytes that it cannot read: of a
  // login page, or of an answer that was cut.
  if (error.metadata.keys().next().done) return { kind: "later", error, afterMs: 0, isDoubtful: true };
  const afterMs = retryAfterOf(error);
  // A gateway that is full says when to come back. Without that the code means too much at once, if the message speaks of
  // size as gateways and gRPC libraries do; a proxy's rate limit answers the same code about requests of any size.
  if (error.code === Code.ResourceExhausted && afterMs === undefined) {
    return { kind: "too large", error, isCertain: SPEAKS_OF_SIZE.test(error.rawMessage.slice(0, MESSAGE_CHARS_READ)) };
  }
  switch (error.code) {
    case Code.InvalidArgument:
    case Code.OutOfRange:
    case Code.AlreadyExists:
    case Code.FailedPrecondition:
      return { kind: "unreadable", error };
    case Code.NotFound:
    case Code.PermissionDenied:
    case Code.Unimplemented:
    case Code.Unauthenticated:
      return { kind: "refused", error };
    default:
      // ResourceExhausted is decided before anything is appended.
      return { kind: "later", error, afterMs: afterMs ?? 0, isDoubtful: error.code !== Code.ResourceExhausted };
  }
}

/** Milliseconds, from seconds or a date; undefined when absent. */
function retryAfterOf(error: ConnectError): number | undefined {
  const text = error.metadata.get("retry-after");
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), RETRY_AFTER_MS_MAX) : 0;
}
