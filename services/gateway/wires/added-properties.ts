// Properties that a wire carries elsewhere, put among an event's own. It runs once an event, so that properties which have
// none of the names, which is nearly all, are not read a second time.
import { type JsonText, textOf } from "#lib/events/json-cursor.ts";
import { withMembers } from "#lib/events/json-members.ts";
import { CheckedProperties } from "#lib/events/properties.ts";
import type { RuleFault } from "#lib/events/rule-fault.ts";
import type { JsonReading } from "../json-body.ts";

/** A text, a number or a switch: with them no object becomes deeper. */
export interface AddedProperty {
  name: string;
  value: JsonText;
}

const EMPTY = "{}";

/** The event's own value stays where it has one of the name. */
export function withAdded(
  properties: CheckedProperties | undefined,
  added: readonly AddedProperty[],
  { inner, limits, properties: reader }: JsonReading,
): CheckedProperties | RuleFault {
  // One character a byte, whatever the bytes stand for.
  const own = properties ? latin1Of(properties.json) : EMPTY;
  // Spelled with escapes a key is another text.
  const isPlain = !own.includes("\\u") && !own.includes("\\/");
  if (!properties || !isPlain || added.some(({ name }) => own.includes(`"${name}"`))) {
    const members = added.map(({ name, value }) => ({ key: quoted(name), value }));
    return reader.check(withMembers(properties?.json, members, inner), "properties", limits);
  }
  let text = own.slice(0, -1);
  let separator = /^\{\s*$/.test(text) ? "" : ",";
  const lifted = { ...properties.lifted };
  for (const { name, value } of added) {
    text += `${separator}"${name}":${latin1Of(value)}`;
    separator = ",";
    if (name === "$session_id") lifted.sessionId = unlessBlank(value) || lifted.sessionId;
    else if (name === "$window_id") lifted.windowId = unlessBlank(value) || lifted.windowId;
    else if (name === "$ignore_sent_at") lifted.ignoresSentAt = textOf(value) === "true";
  }
  const bytes = Buffer.from(`${text}}`, "latin1");
  return new CheckedProperties({ bytes, from: 0, to: bytes.length }, lifted);
}

/** A text as it stands in JSON. */
export function quoted(text: string): JsonText {
  const bytes = Buffer.from(JSON.stringify(text));
  return { bytes, from: 0, to: bytes.length };
}

function latin1Of({ bytes, from, to }: JsonText): string {
  return bytes.toString("latin1", from, to);
}

function unlessBlank(value: JsonText): string {
  const text = JSON.parse(textOf(value)) as string;
  return text.trim() === "" ? "" : text;
}
