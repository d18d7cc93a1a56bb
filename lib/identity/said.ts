// Values as events say them, and when: what facts about people and about groups are made of.
import { isExactNumber } from "#lib/events/json-value.ts";

/** When something was said: event time, and the event's id as UUID text to decide between equal times. */
export interface Moment {
  timeUs: number;
  eventId: string;
}

/** `no_id`: a link of an id that is no id (no-id.ts); `wrong_type`: neither a text nor a number, or no object. */
export type VoidReason = "no_id" | "wrong_type";

export function isAbsent(value: unknown): value is null | undefined {
  return value === undefined || value === null;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isExactNumber(value);
}

/** A number is its text, with the digits that were sent. */
export function idText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  return isExactNumber(value) ? value.rawJSON : undefined;
}
