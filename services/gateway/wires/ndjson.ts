// POST /v0/events?name=NAME: a line of JSON is an event, as Tinybird's clients send them. 202: durable; 200: stored.
import type { Position } from "#lib/eventlog/log.ts";
import type { Logger } from "#lib/process/log.ts";
import { queryOf } from "../caller-keys.ts";
import type { Edge, Entry } from "../edge.ts";
import type { Ingest, Verdict } from "../ingest.ts";
import type { JsonReading } from "../json-body.ts";
import { refused } from "../refusals.ts";
import { lastOf, type StoredWatch } from "../stored-watch.ts";
import { Reply, type Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { createDropLog } from "./batch-drops.ts";
import { BATCH_NAMES } from "./batch-events.ts";
import { readLines } from "./ndjson-lines.ts";
import { namedByPlace, publishAll } from "./publish-all.ts";

export interface NdjsonOptions {
  ingest: Ingest;
  json: JsonReading;
  maxEvents: number;
  logger: Logger;
  storedWatch: StoredWatch;
}

export function createNdjsonWire(edge: Edge, options: NdjsonOptions): Wire {
  const { ingest, json, maxEvents: max, storedWatch } = options;
  const logDropped = createDropLog(options.logger);

  function store(entry: Entry, body: Buffer, name: string, positions: Position[], traceparent: string | undefined) {
    const { events, length: count } = readLines(json, body, name, max);
    if (count > max) throw refused("too_many", { field: "body", count, max });
    if (count === 0) return { successful_rows: 0, quarantined_rows: 0 };
    const facts = entry.admit(count, false);
    const order = { events, names: BATCH_NAMES, facts, dialect: WIRES.ndjson.dialect, traceparent };
    const onDurable = (part: readonly Position[]) => {
      positions.push(...part);
    };
    return answered(publishAll(ingest, { ...order, onDurable }));
  }

  async function answered(published: Promise<Verdict>) {
    const { accepted, rejected } = await published;
    if (rejected.length > 0) logDropped(rejected);
    return {
      ...{ successful_rows: accepted, quarantined_rows: rejected.length },
      ...(rejected.length > 0 && { rejected: namedByPlace(rejected) }),
    };
  }

  return {
    async answer(request, { traceparent }) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      const query = queryOf(request);
      const positions: Position[] = [];
      const entry = edge(request, WIRES.ndjson);
      let rows: object;
      // While a caller waits for the rows it holds no room, so that nobody else is refused for it.
      try {
        const name = nameIn(query, request.url);
        rows = await store(entry, (await entry.readBody()) as Buffer, name, positions, traceparent);
      } finally {
        entry[Symbol.dispose]();
      }
      if (query.get("wait") !== "true") return new Reply(202, rows);
      const last = lastOf(positions);
      if (await storedWatch.untilStored(last)) return rows;
      return new Reply(202, { ...rows, positions: last });
    },
    refusalBody: ({ message }) => ({ error: message }),
  };
}

/** Different bytes that are not UTF-8 would all be the same name. Throws Refused. */
function nameIn(query: URLSearchParams, url = ""): string {
  const name = query.get("name") ?? "";
  if (!name.includes("\ufffd") || /%ef%bf%bd/i.test(url)) return name;
  throw refused("invalid", { field: "name", fault: "is not percent-encoded UTF-8" });
}
