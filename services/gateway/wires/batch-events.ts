// Events of POST /batch/ to what the rules of all dialects take (product-analytics contract, sections 1.5 and 1.8).
import { parseUuid } from "#lib/events/ids.ts";
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { parseDateText, parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput, EventTime, FieldNames } from "#lib/events/validate.ts";
import { type Envelope, refuseWhenAllAre } from "./batch-body.ts";
import type { BodyEvent } from "./event-body.ts";

/** How events of PostHog's shape spell the fields. */
export const BATCH_NAMES: FieldNames = {
  id: "uuid",
  event: "event",
  distinctId: "distinct_id",
  source: "source",
  value: "value",
  properties: "properties",
};

export interface BatchInputs {
  inputs: (EventInput | RuleFault)[];
  /** Where in the batch each of them stood. */
  indexes: number[];
  /** Events without a name or without a distinct id. */
  dropped: number;
}

/**
 * Throws Refused when no event can be taken and one is invalid: the contract has one answer for all of them. Times of
 * browsers are corrected by `sent_at`; servers keep their clocks, and say `sent_at` once for a request that they may
 * repeat an hour later.
 */
export function readEvents({ batch, sentAt }: Envelope, receivedUs: number, isBrowser: boolean): BatchInputs {
  const sentUs = isBrowser && sentAt !== "" ? parseRfc3339(sentAt) : undefined;
  const skewUs = sentUs === undefined ? 0 : receivedUs - sentUs;
  const inputs: (EventInput | RuleFault)[] = [];
  const indexes: number[] = [];
  for (let index = 0; index < batch.length; index++) {
    const given = batch[index] as BodyEvent | RuleFault;
    if (!("fault" in given) && (given.distinctId === "" || given.event.trim() === "")) continue;
    inputs.push("fault" in given ? given : readEvent(given, skewUs));
    indexes.push(index);
  }
  refuseWhenAllAre(inputs, (at) => indexes[at] ?? 0);
  return { inputs, indexes, dropped: batch.length - inputs.length };
}

export function readEvent(given: BodyEvent, skewUs: number): EventInput | RuleFault {
  const { event, distinctId, uuid, timestamp, properties } = given;
  const time = readTime(timestamp, given.ignoresSentAt ? 0 : skewUs);
  if (time && "fault" in time) return { ...time, of: { id: uuid, event } };
  return { id: parseUuid(uuid) ?? "", event, distinctId, source: "", value: undefined, time, properties };
}

function readTime(text: string, skewUs: number): EventTime | RuleFault | undefined {
  if (text === "") return undefined;
  const us = parseDateText(text);
  if (us !== undefined) return { us, skewUs, text: () => text };
  const shown = JSON.stringify(text.slice(0, 40));
  return fault(
    "invalid",
    "timestamp",
    `${shown} cannot be read as a time; write it like "2026-03-27T12:00:00Z" or leave it out`,
  );
}
