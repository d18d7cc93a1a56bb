// What a `got` line carries: `<collector>-<value name>:<number>`, comma-separated.

import { textFault } from "./lines.ts";

export interface Item {
  collector: string;
  name: string;
  value: number;
}

/**
 * Why an item is no point. `not_utf8`: it holds U+FFFD, which stands for bytes that are not UTF-8; `malformed`: not exactly
 * one colon, not exactly one dash left of it, no value name, or a control character in a name; `not_a_number`: no decimal number; `not_finite`: infinite, NaN, or beyond a double.
 */
export type ItemFault = "not_utf8" | "malformed" | "name_too_long" | "not_a_number" | "not_finite";

const NAME_BYTES_MAX = 200;
/** No two parts of it can match the same digits: a line of digits must not take quadratic time. */
const DECIMAL = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;
const NOT_FINITE = /^[+-]?(nan|inf|infinity)$/i;

/** One item of a `got` line. */
export function parseItem(text: string): Item | ItemFault {
  if (text.includes("\uFFFD")) return "not_utf8";
  const colon = text.indexOf(":");
  if (colon < 0 || text.includes(":", colon + 1)) return "malformed";
  const dash = text.indexOf("-");
  if (dash < 0 || dash >= colon - 1) return "malformed";
  const secondDash = text.indexOf("-", dash + 1);
  if (secondDash >= 0 && secondDash < colon) return "malformed";
  const collector = text.slice(0, dash);
  const name = text.slice(dash + 1, colon);
  if (isLongerThan(NAME_BYTES_MAX, name) || isLongerThan(NAME_BYTES_MAX, collector)) return "name_too_long";
  if (textFault(collector) || textFault(name)) return "malformed";
  const number = text.slice(colon + 1);
  if (NOT_FINITE.test(number)) return "not_finite";
  if (!DECIMAL.test(number)) return "not_a_number";
  const value = Number(number);
  return Number.isFinite(value) ? { collector, name, value } : "not_finite";
}

function isLongerThan(bytes: number, text: string): boolean {
  return text.length > bytes || Buffer.byteLength(text) > bytes;
}

/** As pulse's relays write it: four decimals, no exponent. The value must be finite. */
export function formatItem({ collector, name, value }: Item): string {
  return `${collector}-${name}:${formatNumber(value)}`;
}

function formatNumber(value: number): string {
  // From here on toFixed answers with an exponent; such doubles have no decimals.
  return Math.abs(value) >= 1e21 ? `${BigInt(value)}.0000` : value.toFixed(4);
}
