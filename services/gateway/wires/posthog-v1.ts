// POST /i/v1/analytics/events, PostHog's Capture V1: one result an event. "ok" only once it is durable.
import { type Added, addedKey } from "#lib/events/added-properties.ts";
import type { JsonText } from "#lib/events/json-cursor.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import { RETRY_AFTER_SECONDS } from "#lib/http/retry-after.ts";
import type { Edge, Entry } from "../edge.ts";
import { IngestUnavailableError, type Rejection, type Verdict } from "../ingest.ts";
import { refused } from "../refusals.ts";
import { Reply, type Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { createDropLog } from "./batch-drops.ts";
import { BATCH_NAMES } from "./batch-events.ts";
import { EventReader, V1_EVENT } from "./event-body.ts";
import type { PostHogOptions } from "./posthog.ts";
import { readPostHogBody } from "./posthog-body.ts";
import { faultOfAll, inputsOf, postHogError } from "./posthog-events.ts";

type Result = "ok" | "drop" | "retry";
interface EventResult {
  result: Result;
  details?: string;
}

const SDK_INFO_CHARS_MAX = 200;
const [LIB, LIB_VERSION] = [addedKey("$lib"), addedKey("$lib_version")];

export function createPostHogV1Wire(edge: Edge, { ingest, json, maxEvents: max, logger }: PostHogOptions): Wire {
  const logDropped = createDropLog(logger);

  function store(entry: Entry, body: Uint8Array, request: HttpRequest, traceparent: string | undefined) {
    const reader = new EventReader(json, V1_EVENT, libraryOf(request));
    const { batch, length: count, uuids, checkStored } = readPostHogBody(json, body, max, reader);
    if (count > max) throw refused("too_many", { field: "batch", count, max });
    const facts = entry.admit(count, checkStored);
    const sentAt = String(request.headers["posthog-request-timestamp"] ?? "");
    const events = inputsOf(batch, { receivedUs: facts.receivedUs, sentAt, isPage: entry.isPage }, "UUID or fault");
    const { dialect } = WIRES.posthogV1;
    return answered(ingest.publish({ events, names: BATCH_NAMES, facts, dialect, traceparent }), uuids);
  }

  async function answered(published: Promise<Verdict>, uuids: readonly string[]) {
    const rejected = await rejectedOf(published);
    if (rejected.length === 0)
      return new Reply(200, allTaken(uuids), { "content-type": "application/json; charset=utf-8" });
    refuseUnnamed(rejected, uuids);
    const results = resultsOf(uuids, rejected);
    const dropped = rejected.filter(({ retryable }) => !retryable);
    if (dropped.length > 0) logDropped(dropped);
    const isRetry = rejected.length > dropped.length;
    return new Reply(200, { results }, isRetry ? { "retry-after": String(RETRY_AFTER_SECONDS.gateway) } : {});
  }

  /** Of an event log that takes nothing each event is told, too. */
  async function rejectedOf(published: Promise<Verdict>): Promise<readonly Rejection[]> {
    try {
      return (await published).rejected;
    } catch (error) {
      if (!(error instanceof IngestUnavailableError)) throw error;
      const { message, rejected } = error;
      return rejected.map((each) => (each.retryable ? { ...each, message } : each));
    }
  }

  return {
    async answer(request, { traceparent }) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, WIRES.posthogV1);
      return await store(entry, await entry.readBody(), request, traceparent);
    },
    refusalBody: postHogError,
  };
}

/** Of an event without an id no result can be said, and what is not said counts as "ok". Throws Refused. */
function refuseUnnamed(rejected: readonly Rejection[], uuids: readonly string[]): void {
  const unnamed = rejected.filter(({ index }) => uuids[index] === "");
  if (unnamed.some(({ retryable }) => retryable)) throw refused("log_away", { ids: "uuids" });
  const [first] = unnamed;
  if (first && unnamed.length === uuids.length) throw faultOfAll(first, first.index, uuids.length);
}

/** As JSON: an object of so many names takes three times as long. Ids of events that were taken are UUIDs. */
function allTaken(uuids: readonly string[]): string {
  let results = "";
  for (const uuid of new Set(uuids)) {
    if (uuid !== "") results += `${results === "" ? "" : ","}"${uuid}":{"result":"ok"}`;
  }
  return `{"results":{${results}}}`;
}

/** What is said of an id that several events have is the worst of it. */
function resultsOf(uuids: readonly string[], rejected: readonly Rejection[]): Record<string, EventResult> {
  const faults = new Map(rejected.map((each) => [each.index, each]));
  // No prototype: the names are the callers'.
  const results = Object.create(null) as Record<string, EventResult>;
  for (let index = 0; index < uuids.length; index++) {
    const uuid = uuids[index] ?? "";
    if (uuid === "") continue;
    const found = faults.get(index);
    const result: Result = found === undefined ? "ok" : found.retryable ? "retry" : "drop";
    const before = results[uuid]?.result;
    if (before === "retry" || (before !== undefined && result === "ok")) continue;
    const details = found && (found.field === "" ? found.message : `${found.field}: ${found.message}`);
    results[uuid] = { result, ...(details !== undefined && { details }) };
  }
  return results;
}

/** The library names itself in a header, NAME/VERSION, instead of in every event. */
function libraryOf({ headers }: HttpRequest): Added[] {
  const info = String(headers["posthog-sdk-info"] ?? "").slice(0, SDK_INFO_CHARS_MAX);
  const slash = info.lastIndexOf("/");
  if (slash <= 0) return info === "" ? [] : [{ key: LIB, value: quoted(info) }];
  return [
    { key: LIB, value: quoted(info.slice(0, slash)) },
    { key: LIB_VERSION, value: quoted(info.slice(slash + 1)) },
  ];
}

/** A text as it stands in JSON. */
function quoted(text: string): JsonText {
  const bytes = Buffer.from(JSON.stringify(text));
  return { bytes, from: 0, to: bytes.length };
}
