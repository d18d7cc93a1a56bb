// Identity facts of records. Most events say nothing about identity: neither their name nor a member of the properties.
import { formatUuid } from "#lib/events/ids.ts";
import { FIELD, type RecordScanner } from "#lib/events/record-scanner.ts";
import { factsOf, IDENTITY_EVENTS, type IdentityFacts, readProperties } from "#lib/identity/facts.ts";
import { GROUP_EVENT } from "#lib/identity/groups.ts";

/** Each has a length of its own. */
const NAMES = new Map([...IDENTITY_EVENTS, GROUP_EVENT].map((name) => [name.length, Buffer.from(name)]));
const NO_FACTS: IdentityFacts = { edge: undefined, properties: [], isRefused: false };

/** Whether the record just scanned is an event that may say something about identity. Runs once a record. */
export function isIdentityEvent({ bytes, starts, ends, aboutPerson }: RecordScanner): boolean {
  if (aboutPerson) return true;
  const from = starts[FIELD.event] as number;
  const name = NAMES.get((ends[FIELD.event] as number) - from);
  if (name === undefined) return false;
  for (let i = 0; i < name.length; i++) if (bytes[from + i] !== name[i]) return false;
  return true;
}

/** Facts of the record just scanned. */
export function factsOfRecord(record: RecordScanner): IdentityFacts {
  const properties = readProperties(bytesOf(record, FIELD.propertiesJson));
  // Braces that hold no JSON, from a producer that is no gateway. The row keeps them as text; they say nothing.
  if (!properties) return NO_FACTS;
  const start = record.starts[FIELD.id] as number;
  return factsOf({
    event: textOf(record, FIELD.event),
    distinctId: textOf(record, FIELD.distinctId),
    properties,
    trusted: record.trusted,
    timeUs: record.timeUs,
    receivedUs: record.receivedUs,
    eventId: formatUuid(record.bytes.subarray(start, start + 16)),
  });
}

function textOf(record: RecordScanner, field: number): string {
  return bytesOf(record, field).toString();
}

function bytesOf({ bytes, starts, ends }: RecordScanner, field: number): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).subarray(starts[field], ends[field]);
}
