// POST /batch/ as product-analytics clients know it. Of several faults the caller hears of the first.

import { declaredLength, mediaType } from "#lib/http/body.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Logger } from "#lib/process/log.ts";
import { type Edge, type Entry, encodingOf } from "../edge.ts";
import type { Ingest, IngestRequest, Verdict } from "../ingest.ts";
import type { JsonReading } from "../json-body.ts";
import { refused } from "../refusals.ts";
import type { Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { readEnvelope } from "./batch-body.ts";
import { createDropLog } from "./batch-drops.ts";
import { BATCH_NAMES, readEvents } from "./batch-events.ts";
import { namedByPlace, positionsByPlace, publishAll, wantsPositions } from "./publish-all.ts";

export interface BatchOptions {
  ingest: Ingest;
  json: JsonReading;
  maxBodyBytes: number;
  maxEvents: number;
  logger: Logger;
}

export function createBatchWire(
  edge: Edge,
  { ingest, json, maxBodyBytes, maxEvents: max, logger }: BatchOptions,
): Wire {
  const logDropped = createDropLog(logger);

  function store(entry: Entry, body: Uint8Array, asked: Pick<IngestRequest, "traceparent" | "wantsPositions">) {
    const envelope = readEnvelope(json, body, max);
    entry.identify(envelope.key);
    const { length: count } = envelope;
    if (count > max) throw refused("too_many", { field: "batch", count, max });
    const facts = entry.admit(count, envelope.checkStored);
    const { inputs, indexes, dropped } = readEvents(envelope, facts.receivedUs, entry.isPage);
    if (inputs.length === 0) return { status: "ok", ingested: 0, dropped };
    const { dialect } = WIRES.batch;
    const order = { events: inputs, names: BATCH_NAMES, facts, dialect, ...asked };
    return answered(publishAll(ingest, order), { indexes, dropped, count });
  }

  /** Knows nothing of the events themselves, which are not to outlive their becoming records. */
  async function answered(published: Promise<Verdict>, of: { indexes: number[]; dropped: number; count: number }) {
    const { accepted, rejected: refusals, positions } = await published;
    const rejected = namedByPlace(refusals, of.indexes);
    if (rejected.length > 0) logDropped(rejected);
    return {
      ...{ status: "ok", ingested: accepted, dropped: of.dropped + rejected.length },
      ...(rejected.length > 0 && { rejected }),
      ...(positions && { positions: positionsByPlace(positions, of.indexes, of.count) }),
    };
  }

  return {
    async answer(request, { path, query, traceparent }) {
      if (request.method !== "POST" || isRpc(request)) {
        throw refused("not_found", { method: request.method ?? "", url: request.url ?? path });
      }
      assertForm(request, query);
      // The original reads a text before it refuses it.
      if (mediaType(request) === "text/plain" && declaredLength(request) > maxBodyBytes) {
        throw refused("body_too_large", { maxBytes: maxBodyBytes });
      }
      using entry = edge(request, WIRES.batch);
      return await store(entry, await entry.readBody(), { traceparent, wantsPositions: wantsPositions(request) });
    },
    refusalBody: ({ message }) => ({ status: "error", error: message }),
    // After what is wrong with the bytes themselves.
    closesAfter: ({ refusal }) => refusal.startsWith("body_") && refusal !== "body_key",
  };
}

/** Of the query and the encoding, on each of the original's paths. Throws Refused. */
export function assertForm(request: HttpRequest, query: string): void {
  if (query.includes("compression") && new URLSearchParams(query).has("compression")) {
    throw refused("compression_query", {});
  }
  encodingOf(request);
}

/** A request whose answer an RPC client reads: it understands 404, and nothing of a 415. */
function isRpc(request: HttpRequest): boolean {
  return /^application\/(?:grpc|connect|proto)/.test(mediaType(request));
}
