// POST /admin/replay: dead letters that `millrace dead-letters replay` has made anew, for a log that only this process
// can write. Records are appended as they are, so it asks for a secret key wherever keys are asked for at all.
import { type AppendRecord, LogUnavailableError, type Position, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { decodePoint } from "#lib/events/point-record.ts";
import { decodeRecord, PoisonRecordError } from "#lib/events/record.ts";
import { REPLAY_EXTRA_BYTES } from "#lib/events/replay-record.ts";
import { decodeReplayRequest, type ReplayRequest } from "#lib/events/replay-request.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { BodyPatience } from "#lib/http/body-chunks.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import { type Admit, holderOf } from "../admit.ts";
import { type Grant, type Keys, keyOf } from "../auth.ts";
import { busyError, type CallerOf, HttpError, mediaType, readBody, sendJson } from "../http-request.ts";
import { originOf } from "../origins.ts";

export interface ReplayOptions {
  append(topic: string, records: readonly AppendRecord[]): Promise<Position[]>;
  admit: Admit;
  callerOf: CallerOf;
  patience: BodyPatience;
  keys: Keys;
  maxBodyBytes: number;
  maxEvents: number;
  maxEventBytes: number;
}

/** Answers, unless the caller has gone, and resolves with the status for the metrics. */
export type ReplayDialect = (request: HttpRequest, response: HttpResponse) => Promise<string>;

export function createReplayDialect(options: ReplayOptions): ReplayDialect {
  async function replay(request: HttpRequest): Promise<Position[]> {
    if (request.method !== "POST") throw new HttpError(405, "use POST", { headers: { allow: "POST" } });
    const grant = options.keys.authorise(keyOf(request));
    if (!grant) throw new HttpError(401, "the api key is missing or unknown: send authorization: Bearer KEY");
    if (grant.key !== "" && !grant.isSecret) throw new HttpError(403, "a replay needs one of SECRET_API_KEYS");
    // Without keys a page in somebody's browser must not get here either.
    if (originOf(request) !== "") throw new HttpError(403, "a replay is not for web pages");
    if (mediaType(request) !== "application/json") throw new HttpError(415, "content-type: must be application/json");
    const { maxBodyBytes: maxBytes, patience } = options;
    const lease = options.admit(request, holderOf(grant, options.callerOf(request).address), maxBytes);
    if (!lease) throw busyError("too many bytes in flight; try again");
    try {
      const body = await readBody(request, { maxBytes, lease, patience });
      const { topic, records } = readRequest(body, grant);
      return await options.append(topic, records);
    } catch (error) {
      if (error instanceof RecordTooLargeError) throw new HttpError(413, error.message, { cause: error });
      if (error instanceof LogUnavailableError)
        throw busyError(`the event log is unavailable: ${error.message}`, error);
      throw error;
    } finally {
      lease.release();
    }
  }

  function readRequest(body: Uint8Array, grant: Grant): ReplayRequest {
    const request = decodeReplayRequest(Buffer.from(body.buffer, body.byteOffset, body.length).toString());
    if (!request) {
      throw new HttpError(400, 'body: must be {"topic":"…","records":[{"key":"<base64>","value":"<base64>"}]}');
    }
    const { topic, records } = request;
    const read = READERS.get(topic);
    if (!read) throw new HttpError(400, `topic: must be ${[...READERS.keys()].join(" or ")}`);
    if (records.length > options.maxEvents) {
      throw new HttpError(413, `records: has ${records.length}; one request may have ${options.maxEvents}`);
    }
    for (const [index, record] of records.entries()) {
      const bytes = record.key.length + record.value.length;
      if (bytes > options.maxEventBytes + REPLAY_EXTRA_BYTES) {
        throw new HttpError(413, `records[${index}]: has ${bytes} bytes; one may have ${options.maxEventBytes}`);
      }
      const fault = faultOf(() => read(record.value), grant);
      if (fault !== undefined) throw new HttpError(400, `records[${index}]: ${fault}`);
    }
    return request;
  }

  return async (request, response) => {
    try {
      const positions = await replay(request);
      sendJson(response, 200, { positions });
      return "200";
    } catch (error) {
      if (!(error instanceof HttpError)) {
        if (isCallerGone(response)) return "gone";
        throw error;
      }
      sendJson(response, error.status, { error: error.message }, error.headers);
      return String(error.status);
    }
  };
}

/** What is asked of a record before it goes onto its topic as it is. */
interface Replayed {
  origin?: object | undefined;
  checkStored: boolean;
  trusted: boolean;
}

/** By topic, as the topic's consumer reads a value; they throw PoisonRecordError. */
const READERS = new Map<string, (value: Uint8Array) => Replayed>([
  [EVENTS_TOPIC, decodeRecord],
  // Nothing is decided by who sent a point.
  [POINTS_TOPIC, (value) => ({ ...decodePoint(value), trusted: false })],
]);

/** Why the record is no replay that this caller may send. */
function faultOf(read: () => Replayed, grant: Grant): string | undefined {
  try {
    const { origin, checkStored, trusted } = read();
    if (!origin || !checkStored) return "is no replay: it has no origin, or is not to be looked up";
    return trusted && !grant.isSecret ? "was sent with a secret key, so its replay needs one" : undefined;
  } catch (error) {
    if (error instanceof PoisonRecordError) return `could not be stored: ${error.message}`;
    throw error;
  }
}
