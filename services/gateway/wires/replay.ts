// POST /admin/replay: dead letters that `millrace dead-letters replay` has rebuilt, for a log that only this process
// can write. Records are appended as they are, so it asks for a secret key wherever keys are asked for at all.
import { isUtf8 } from "node:buffer";
import { type AppendRecord, LogUnavailableError, type Position, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { decodePoint } from "#lib/events/point-record.ts";
import { decodeRecord, PoisonRecordError } from "#lib/events/record.ts";
import { REPLAY_EXTRA_BYTES } from "#lib/events/replay-record.ts";
import { decodeReplayRequest, type ReplayRequest } from "#lib/events/replay-request.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { Grant } from "../auth.ts";
import type { Edge } from "../edge.ts";
import { refused } from "../refusals.ts";
import type { Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";

export interface ReplayOptions {
  append(topic: string, records: readonly AppendRecord[]): Promise<Position[]>;
  maxEvents: number;
  maxEventBytes: number;
}

export function createReplayWire(edge: Edge, options: ReplayOptions): Wire {
  function readRequest(body: Uint8Array, grant: Grant): ReplayRequest {
    if (!isUtf8(body)) throw invalid("body", "is not UTF-8");
    const request = decodeReplayRequest(body);
    if (!request) throw invalid("body", 'must be {"topic":"…","records":[{"key":"<base64>","value":"<base64>"}]}');
    const { topic, records } = request;
    const read = READERS.get(topic);
    if (!read) throw invalid("topic", `must be ${[...READERS.keys()].join(" or ")}`);
    const { maxEvents: max, maxEventBytes } = options;
    if (records.length > max) throw refused("too_many", { field: "records", count: records.length, max });
    for (const [index, record] of records.entries()) {
      const field = `records[${index}]`;
      const bytes = record.key.length + record.value.length;
      if (bytes > maxEventBytes + REPLAY_EXTRA_BYTES) {
        throw refused("too_large", { field, fault: `has ${bytes} bytes; one may have ${maxEventBytes}` });
      }
      const fault = faultOf(() => read(record.value), grant);
      if (fault !== undefined) throw invalid(field, fault);
    }
    return request;
  }

  return {
    async answer(request) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, WIRES.replay);
      const { topic, records } = readRequest(await entry.readBody(), entry.grant);
      try {
        return { positions: await options.append(topic, records) };
      } catch (error) {
        if (error instanceof RecordTooLargeError) {
          throw refused("too_large", { field: "records", fault: error.message }, error);
        }
        if (error instanceof LogUnavailableError) throw refused("log_away", { ids: "records" }, error);
        throw error;
      }
    },
    refusalBody: ({ message }) => ({ error: message }),
  };
}

function invalid(field: string, fault: string) {
  return refused("invalid", { field, fault });
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
    if (!origin || !checkStored) return "is not a replay: it has no origin, or lacks check_stored";
    return trusted && !grant.isSecret ? "was sent with a secret key, so its replay needs one" : undefined;
  } catch (error) {
    if (error instanceof PoisonRecordError) return `could not be stored: ${error.message}`;
    throw error;
  }
}
