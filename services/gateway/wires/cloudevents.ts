// CloudEvents 1.0 over HTTP: structured, batched and binary; OpenMeter's clients send batches.
import type { RuleFault } from "#lib/events/rule-fault.ts";
import type { EventInput } from "#lib/events/validate.ts";
import { mediaType } from "#lib/http/body.ts";
import { headerText } from "#lib/http/credential.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Edge, Entry } from "../edge.ts";
import type { Ingest, Verdict } from "../ingest.ts";
import { type JsonReading, readJsonBody } from "../json-body.ts";
import { refused } from "../refusals.ts";
import { Reply, type Wire } from "../wire.ts";
import { WIRES } from "../wire-table.ts";
import { createDropLog } from "./batch-drops.ts";
import { CLOUDEVENT_FIELDS, readBinary, readStructured } from "./cloudevents-event.ts";
import { publishAll } from "./publish-all.ts";

export interface CloudEventsOptions {
  ingest: Ingest;
  json: JsonReading;
  maxEvents: number;
  logger: Logger;
}

const TYPE = "application/cloudevents";
const HEADER = "ce-";

/** Whether a request to a path that is not CloudEvents' alone is one of theirs. */
export function isCloudEvent(request: HttpRequest): boolean {
  return request.headers["ce-specversion"] !== undefined || mediaType(request).startsWith(TYPE);
}

export function createCloudEventsWire(edge: Edge, options: CloudEventsOptions): Wire {
  const { ingest, json, maxEvents: max } = options;
  const logDropped = createDropLog(options.logger);

  function read(request: HttpRequest, body: Buffer): { events: (EventInput | RuleFault)[]; count: number } {
    const isBinary = request.headers["ce-specversion"] !== undefined && !mediaType(request).startsWith(TYPE);
    if (!isBinary) return readJsonBody(json.cursor, body, 0, () => readEvents(json, max));
    const attributes = attributesOf(request);
    const type = mediaType(request);
    return { events: [readBinary(json, attributes, type, body)], count: 1 };
  }

  function store(entry: Entry, body: Buffer, request: HttpRequest, traceparent: string | undefined) {
    const { events, count } = read(request, body);
    if (count > max) throw refused("too_many", { field: "body", count, max });
    if (count === 0) return new Reply(204, undefined);
    const facts = entry.admit(count, false);
    const { dialect } = WIRES.cloudevents;
    const order = { events, names: CLOUDEVENT_FIELDS, facts, dialect, traceparent };
    return answered(publishAll(ingest, order, "ids"), count);
  }

  async function answered(published: Promise<Verdict>, count: number) {
    const { accepted, rejected } = await published;
    const [first] = rejected;
    if (!first) return new Reply(204, undefined);
    logDropped(rejected);
    if (accepted === 0) {
      const field = count === 1 ? first.field : `[${first.index}]${first.field && `.${first.field}`}`;
      const detail = { field: field || "body", fault: first.message };
      throw refused(first.code === "too_large" ? "too_large" : "invalid", detail);
    }
    return {
      accepted,
      rejected: rejected.map(({ index, code, field, message }) => ({ index, code, field, message })),
    };
  }

  return {
    async answer(request, { traceparent }) {
      if (request.method !== "POST") throw refused("method", { allow: "POST" });
      using entry = edge(request, WIRES.cloudevents);
      return await store(entry, (await entry.readBody()) as Buffer, request, traceparent);
    },
    refusalBody: ({ status, refusal, message }) => ({ error: message, code: refusal, status, detail: message }),
  };
}

/** An array is a batch, whichever of the two media types is named. */
function readEvents(json: JsonReading, max: number): { events: (EventInput | RuleFault)[]; count: number } {
  const { cursor } = json;
  if (cursor.kind() !== "array") return { events: [readStructured(json)], count: 1 };
  const events: (EventInput | RuleFault)[] = [];
  let count = 0;
  cursor.enter();
  while (cursor.nextItem()) {
    if (count++ < max) events.push(readStructured(json));
    else cursor.skip();
  }
  return { events, count };
}

/** Of the headers that begin with "ce-": quoted as RFC 7230 has it, then text outside printable ASCII percent-encoded. */
function attributesOf({ headers }: HttpRequest): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(HEADER)) attributes.set(name.slice(HEADER.length), unescaped(unquoted(headerText(value))));
  }
  return attributes;
}

const QUOTED = /^"(?:[^"\\]|\\.)*"$/;

function unquoted(text: string): string {
  return QUOTED.test(text) ? text.slice(1, -1).replaceAll(/\\(.)/g, "$1") : text;
}

function unescaped(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    // It throws for escapes that make no text, nothing else: what was sent is kept.
    return text;
  }
}
