// Segment's, RudderStack's and Jitsu's paths. Their SDKs look at the status alone, and one of RudderStack's ends its process
// at an error: a batch with invalid messages is answered by 200 all the same, and says which they are.

import type { FieldNames } from "#lib/events/validate.ts";
import type { Logger } from "#lib/process/log.ts";
import { keysOf } from "../caller-keys.ts";
import type { Edge, Entry } from "../edge.ts";
import type { Ingest, Verdict } from "../ingest.ts";
import type { JsonReading } from "../json-body.ts";
import { refused } from "../refusals.ts";
import type { Arrival, Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { createDropLog } from "./batch-drops.ts";
import { publishAll } from "./publish-all.ts";
import { eventsOf, readBatch, readOne } from "./segment-body.ts";
import { isMessageType, MESSAGE_TYPES, type MessageType } from "./segment-message.ts";

const FIELD_NAMES: FieldNames = {
  id: "messageId",
  event: "event",
  distinctId: "userId",
  source: "source",
  value: "value",
  properties: "properties",
};

export interface SegmentOptions {
  ingest: Ingest;
  json: JsonReading;
  maxEvents: number;
  logger: Logger;
}

/** What a path says of its body. */
interface Kind {
  isBatch: boolean;
  /** Undefined: the message says it. */
  type: MessageType | undefined;
  /** Segment's import is of the past, its times are right, and it may be repeated long after. */
  isImport: boolean;
}

const BATCHES = new Set(["batch", "import", "b"]);
/** As analytics.js abbreviates them. */
const SHORT = new Map<string, MessageType>(MESSAGE_TYPES.map((type) => [type.charAt(0), type]));

function kindOf(name: string): Kind {
  const type = SHORT.get(name) ?? (isMessageType(name) ? name : undefined);
  return { isBatch: BATCHES.has(name), type, isImport: name === "import" };
}

type Rules = typeof WIRES.segment | typeof WIRES.jitsu;

export function createSegmentWire(edge: Edge, options: SegmentOptions): Wire {
  return createWire(edge, options, WIRES.segment, ({ path }) => path.split("/").at(-1) ?? "", { success: true });
}

/** Jitsu's clients put the type into the path, `event` where the message has it. */
export function createJitsuWire(edge: Edge, options: SegmentOptions): Wire {
  return createWire(edge, options, WIRES.jitsu, ({ parts: [name = ""] }) => name, { ok: true });
}

function createWire(
  edge: Edge,
  { ingest, json, maxEvents: max, logger }: SegmentOptions,
  rules: Rules,
  nameOf: (arrival: Arrival) => string,
  success: object,
): Wire {
  const logDropped = createDropLog(logger);

  function store(entry: Entry, body: Uint8Array, kind: Kind, hasKey: boolean, traceparent: string | undefined) {
    const read = kind.isBatch ? readBatch(json, body, max) : readOne(json, body, kind.type);
    // Jitsu's clients send their key in a header, and a masked one in the body.
    entry.identify(hasKey ? "" : read.writeKey.trim());
    const { length: count } = read;
    if (count > max) throw refused("too_many", { field: "batch", count, max });
    if (count === 0) return success;
    const facts = entry.admit(count, kind.isImport);
    const events = eventsOf(read, facts, !kind.isImport);
    const order = { events, names: FIELD_NAMES, facts, dialect: rules.dialect, traceparent };
    return answered(publishAll(ingest, order, "messageIds"), kind);
  }

  async function answered(published: Promise<Verdict>, kind: Kind) {
    const { accepted, rejected } = await published;
    if (rejected.length === 0) return success;
    logDropped(rejected);
    const [{ code, field, message }] = rejected as [(typeof rejected)[0]];
    if (!kind.isBatch) {
      throw refused(code === "too_large" ? "too_large" : "invalid", { field: field || "body", fault: message });
    }
    const told = rejected.map(({ index, code, field, message }) => ({ index, code, field, message }));
    return { ...(accepted > 0 ? success : {}), accepted, rejected: told };
  }

  return {
    async answer(request, arrival) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      const hasKey = keysOf(request, rules.keys).length > 0;
      using entry = edge(request, rules);
      return await store(entry, await entry.readBody(), kindOf(nameOf(arrival)), hasKey, arrival.traceparent);
    },
    refusalBody: ({ refusal, message }) => ({ code: refusal, message }),
  };
}
