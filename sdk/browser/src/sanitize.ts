// Makes of whatever a page passes as properties plain JSON within the server's limits. One event that breaks them would be
// dropped there, and a `__proto__` key would have the whole batch refused.
import type { Properties } from "./types.ts";

/** In the place of a value whose getter, proxy or toJSON threw. */
export const UNREADABLE = "[Unreadable]";
const STRING_CHARS_MAX = 65_535;
/** The server takes 32 levels and 1,000 keys; 900,000 bytes an event, up to three a character. */
const DEPTH_MAX = 30;
const KEYS_MAX = 950;
const ITEMS_MAX = 10_000;
const CHARS_MAX = 250_000;

interface Budget {
  keys: number;
  items: number;
  chars: number;
  ancestors: Set<object>;
  denied: ReadonlySet<string>;
}

/**
 * A copy as JSON can carry it: strings cut at 65,535 characters, bigint to text, dates to ISO 8601, `[Circular]` for
 * cycles, functions and undefined left out. What is over the limits is left out from the end on. Keys in `denied` are
 * left out at every depth, but for `distinct_id` at the top, without which the server would drop the event.
 */
export function sanitize(properties: Properties, denied: ReadonlySet<string>): Properties {
  const budget = { keys: KEYS_MAX, items: ITEMS_MAX, chars: CHARS_MAX, ancestors: new Set<object>(), denied };
  const { distinct_id } = properties;
  const clean = cleanObject(properties, budget, 1, "");
  if (distinct_id !== undefined) clean.distinct_id = distinct_id;
  return clean;
}

function cleanValue(value: unknown, budget: Budget, depth: number, key: string): unknown {
  if (typeof value === "string") return cut(value, budget);
  if (typeof value === "bigint") return cut(String(value), budget);
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value === "boolean" || value === null) return value;
  if (typeof value !== "object") return undefined;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (budget.ancestors.has(value)) return "[Circular]";
  if (depth > DEPTH_MAX) return "[Too deep]";
  // A node leads to the whole document, and to what frameworks hang on its elements.
  if (typeof Node === "function" && value instanceof Node) return "[Node]";
  budget.ancestors.add(value);
  try {
    const { toJSON } = value as { toJSON?: unknown };
    if (typeof toJSON === "function") return cleanValue(toJSON.call(value, key), budget, depth + 1, key);
    return Array.isArray(value) ? cleanArray(value, budget, depth) : cleanObject(value, budget, depth, key);
  } catch {
    // A getter, a proxy or toJSON threw: that value is lost, the event is not.
    return UNREADABLE;
  } finally {
    budget.ancestors.delete(value);
  }
}

function cleanArray(values: readonly unknown[], budget: Budget, depth: number): unknown[] {
  const clean: unknown[] = [];
  for (let i = 0; i < values.length && budget.items > 0; i++) {
    budget.items--;
    clean.push(cleanValue(values[i], budget, depth + 1, String(i)) ?? null);
  }
  return clean;
}

function cleanObject(object: object, budget: Budget, depth: number, parentKey: string): Properties {
  const clean: Properties = {};
  budget.ancestors.add(object);
  for (const key of Object.keys(object)) {
    if (budget.keys <= 0) break;
    if (budget.denied.has(key) || key === "__proto__" || (parentKey === "constructor" && key === "prototype")) continue;
    const value = readValue(object, key, budget, depth);
    if (value === undefined || key.length > budget.chars) continue;
    budget.keys--;
    budget.chars -= key.length;
    clean[key] = value;
  }
  budget.ancestors.delete(object);
  return clean;
}

/** By itself, so that one getter that throws does not take its neighbours away. */
function readValue(object: object, key: string, budget: Budget, depth: number): unknown {
  let value: unknown;
  try {
    value = (object as Properties)[key];
  } catch {
    return UNREADABLE;
  }
  return cleanValue(value, budget, depth + 1, key);
}

function cut(text: string, budget: Budget): string {
  const most = Math.min(STRING_CHARS_MAX, budget.chars);
  let end = Math.min(text.length, most);
  // Not between the halves of a surrogate pair.
  if (end < text.length && end > 0 && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end--;
  budget.chars -= end;
  return end === text.length ? text : text.slice(0, end);
}
