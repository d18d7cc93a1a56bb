// POST /e/, /i/v0/e/, /capture/, /track/, /engage/ and /batch, as PostHog's libraries send events to them.

import type { Logger } from "#lib/process/log.ts";
import type { Edge, Entry } from "../edge.ts";
import type { Ingest, Verdict } from "../ingest.ts";
import type { JsonReading } from "../json-body.ts";
import { refused } from "../refusals.ts";
import type { Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { createDropLog } from "./batch-drops.ts";
import { BATCH_NAMES } from "./batch-events.ts";
import { EventReader, POSTHOG_EVENT } from "./event-body.ts";
import { readPostHogBody } from "./posthog-body.ts";
import { faultOfAll, inputsOf, postHogError } from "./posthog-events.ts";
import { publishAll } from "./publish-all.ts";

export interface PostHogOptions {
  ingest: Ingest;
  json: JsonReading;
  maxEvents: number;
  logger: Logger;
}

/** What an event without a name is called on paths of which only people's properties come. */
const NAME_OF_ENGAGE = "$identify";

export function createPostHogWire(edge: Edge, { ingest, json, maxEvents: max, logger }: PostHogOptions): Wire {
  const logDropped = createDropLog(logger);
  const reader = new EventReader(json, POSTHOG_EVENT);

  function store(entry: Entry, body: Uint8Array, path: string, traceparent: string | undefined) {
    const { batch, length: count, ...envelope } = readPostHogBody(json, body, max, reader);
    entry.identify(envelope.key, envelope.lastResort);
    if (count > max) throw refused("too_many", { field: "batch", count, max });
    const facts = entry.admit(count, envelope.checkStored);
    if (path.startsWith("/engage")) {
      for (const each of batch) if (!("fault" in each) && each.event === "") each.event = NAME_OF_ENGAGE;
    }
    const clocks = { receivedUs: facts.receivedUs, sentAt: envelope.sentAt, isPage: entry.isPage };
    const events = inputsOf(batch, clocks, "UUID or none");
    const { dialect } = WIRES.posthog;
    return answered(publishAll(ingest, { events, names: BATCH_NAMES, facts, dialect, traceparent }), count);
  }

  async function answered(published: Promise<Verdict>, count: number) {
    const { rejected } = await published;
    const [first] = rejected;
    if (!first) return { status: 1 };
    if (rejected.length === count) throw faultOfAll(first, first.index, count);
    logDropped(rejected);
    const told = rejected.map(({ index, code, field, message }) => ({ index, code, field, message }));
    return { status: 1, dropped: rejected.length, rejected: told };
  }

  return {
    async answer(request, { path, traceparent }) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, WIRES.posthog);
      return await store(entry, await entry.readBody(), path, traceparent);
    },
    refusalBody: postHogError,
  };
}
