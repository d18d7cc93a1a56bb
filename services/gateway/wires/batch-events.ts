// Events of POST /batch/ to what the rules of all dialects take (product-analytics contract, sections 1.5 and 1.8).
import { parseUuid } from "#lib/events/ids.ts";
import type { PropertyObject } from "#lib/events/properties.ts";
import { parseDateText, parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput, EventTime } from "#lib/events/validate.ts";
import { refused } from "../refusals.ts";
import type { BatchEvent, Envelope } from "./batch-body.ts";

export interface BatchInputs {
  inputs: EventInput[];
  /** Where in the batch each of them stood. */
  indexes: number[];
  /** Events without a name or without a distinct id. */
  dropped: number;
}

const NO_PROPERTIES: PropertyObject = {};

/**
 * Throws Refused for a time that cannot be read, unless its event is dropped anyway. Times of browsers are corrected
 * by `sent_at`; servers keep their clocks, and say `sent_at` once for a request that they may repeat an hour later.
 */
export function readEvents({ batch, sentAt }: Envelope, receivedUs: number, isBrowser: boolean): BatchInputs {
  const sentUs = isBrowser && typeof sentAt === "string" ? parseRfc3339(sentAt) : undefined;
  const skewUs = sentUs === undefined ? 0 : receivedUs - sentUs;
  const inputs: EventInput[] = [];
  const indexes: number[] = [];
  for (let index = 0; index < batch.length; index++) {
    const given = batch[index] as BatchEvent;
    const { event = "", properties = NO_PROPERTIES } = given;
    const distinctId = distinctIdOf(given, properties);
    if (distinctId === "" || isBlank(event)) continue;
    inputs.push({
      id: idOf(given.uuid),
      event,
      distinctId,
      source: "",
      value: undefined,
      time: readTime(given.timestamp, isTrue(properties.$ignore_sent_at) ? 0 : skewUs, index),
      properties,
      overflowIsNull: true,
    });
    indexes.push(index);
  }
  return { inputs, indexes, dropped: batch.length - inputs.length };
}

/** First string that is not blank, untrimmed; "" when there is none. Browsers send it among the properties only. */
function distinctIdOf({ distinct_id }: BatchEvent, properties: PropertyObject): string {
  if (distinct_id !== undefined && !isBlank(distinct_id)) return distinct_id;
  const { distinct_id: plain, $distinct_id: special } = properties;
  if (typeof plain === "string" && !isBlank(plain)) return plain;
  return typeof special === "string" && !isBlank(special) ? special : "";
}

function isBlank(text: string): boolean {
  return text.trim() === "";
}

function idOf(uuid: unknown): string | Uint8Array {
  return (typeof uuid === "string" && parseUuid(uuid)) || "";
}

/** As PostHog's own clients read their switches. */
function isTrue(value: unknown): boolean {
  return value === true || value === 1 || value === "1" || value === "true";
}

function readTime(text: string | undefined, skewUs: number, index: number): EventTime | undefined {
  if (text === undefined || text === "") return undefined;
  const us = parseDateText(text);
  if (us !== undefined) return { us, skewUs, text: () => text };
  const shown = JSON.stringify(text.slice(0, 40));
  throw refused("invalid", {
    field: `batch[${index}].timestamp`,
    fault: `${shown} cannot be read as a time; write it like "2026-03-27T12:00:00Z" or leave it out`,
  });
}
