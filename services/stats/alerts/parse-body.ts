// The body of POST and PUT /alerts, read as Go's encoding/json reads it: keys in any case, the last one counts, unknown
// ones are ignored, null is absent.
import type { Compat } from "../stat-request.ts";
import type { DefinitionInput, FieldFault } from "./parse.ts";

export interface AlertBody {
  /** "" when the caller sent none. */
  id: string;
  input: DefinitionInput;
  /** Fields of another JSON type than they must have. */
  faults: FieldFault[];
}

/** Undefined when the bytes are no JSON object, and no null, which Go takes for an empty one. */
export function readAlertBody(bytes: Buffer, compat: Compat): AlertBody | undefined {
  const body = parseJson(bytes);
  if (body === undefined || Array.isArray(body) || typeof body !== "object") return undefined;
  const fields = new Map(Object.entries(body ?? {}).map(([key, value]) => [key.toLowerCase(), value ?? undefined]));
  const faults: FieldFault[] = [];
  const take = <T>(field: string, expected: string, read: (value: unknown) => T | undefined): T | undefined => {
    const value: unknown = fields.get(field);
    const found = value === undefined ? undefined : read(value);
    if (value !== undefined && found === undefined) {
      faults.push({ kind: "type", field, message: `is ${typeName(value)}; send ${expected}` });
    }
    return found;
  };
  const text = (field: string) => take(field, "text", asText);
  const isCode = compat === "code";
  const id = text("id") ?? "";
  const input: DefinitionInput = {
    metric: text("metric"),
    tags: take("tags", 'an object of text, such as {"host":"web-1"}', asTags),
    level: text("level"),
    operator: text("operator"),
    threshold: isCode ? text("threshold") : take("threshold", "a number, or a number as text", asNumberOrText),
    duration: text("duration"),
    post: text("post"),
    // The original knew neither, and ignored them.
    groupBy: isCode ? undefined : take("group_by", 'a list of tag names, such as ["host"]', asTexts),
    noData: isCode ? undefined : text("no_data"),
  };
  return { id, input, faults };
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    // The answer's text is fixed by the contract and has no room for where the mistake is.
    return undefined;
  }
}

function typeName(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value === "string" ? "text" : typeof value}`;
}

/** Half of a surrogate pair is no text that can be stored. */
function asText(value: unknown): string | undefined {
  return typeof value === "string" ? value.toWellFormed() : undefined;
}

function asNumberOrText(value: unknown): number | string | undefined {
  return typeof value === "number" ? value : asText(value);
}

function asTexts(value: unknown): string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const texts = value.map(asText);
  return texts.every((text) => text !== undefined) ? texts : undefined;
}

function asTags(value: unknown): Record<string, string> | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  // A null in a map of texts is an empty one.
  const entries = Object.entries(value).map(([name, text]) => [name.toWellFormed(), asText(text ?? "")] as const);
  return entries.every((entry): entry is [string, string] => entry[1] !== undefined)
    ? Object.fromEntries(entries)
    : undefined;
}
