// What PostHog's wires have in common once a body is read: events to what the rules of all dialects take, and refusals in
// the shape that PostHog's libraries read.
import { fault, type RuleFault } from "#lib/events/rule-fault.ts";
import { parseRfc3339 } from "#lib/events/time.ts";
import type { EventInput } from "#lib/events/validate.ts";
import { type Refused, refused } from "../refusals.ts";
import { readEvent } from "./batch-events.ts";
import type { BodyEvent } from "./event-body.ts";

export interface Clocks {
  receivedUs: number;
  /** As the sender's clock had it; "" when unknown. */
  sentAt: string;
  /** Times of browsers are corrected by `sentAt`; servers keep theirs. */
  isPage: boolean;
}

/** Whether an id that is not a UUID is a fault, or none. */
export type IdRule = "UUID or fault" | "UUID or none";

/** One for one: an event without a name or a distinct id is invalid like any other. */
export function inputsOf(
  batch: readonly (BodyEvent | RuleFault)[],
  { receivedUs, sentAt, isPage }: Clocks,
  idRule: IdRule,
): (EventInput | RuleFault)[] {
  const sentUs = isPage && sentAt !== "" ? parseRfc3339(sentAt) : undefined;
  const skewUs = sentUs === undefined ? 0 : receivedUs - sentUs;
  return batch.map((given) => {
    if ("fault" in given) return given;
    if (given.distinctId.trim() === "") {
      const message = "is required, here or among the properties: it says who did it";
      return { ...fault("missing", "distinct_id", message), of: { id: given.uuid, event: given.event } };
    }
    const input = readEvent(given, skewUs);
    if (idRule === "UUID or fault" && given.uuid !== "" && !("fault" in input) && input.id === "") {
      return fault("invalid", "uuid", "must be a UUID like 0192f0c1-2345-7abc-8def-0123456789ab");
    }
    return input;
  });
}

/** `index` is said where there are several events. */
export function faultOfAll({ field, message }: { field: string; message: string }, index: number, count: number) {
  const place = count === 1 ? field : `batch[${index}]${field && `.${field}`}`;
  return refused("invalid", { field: place || "body", fault: message });
}

export function postHogError({ message, status, refusal }: Refused): unknown {
  const type = status === 401 || status === 403 ? "authentication_error" : status < 500 ? "validation_error" : "error";
  return { type, code: refusal, detail: message, attr: null };
}
