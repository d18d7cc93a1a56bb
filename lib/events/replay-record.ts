// A dead letter's record rebuilt, so that it can be appended again. Which event it is never changes: id and api key
// stay what they were, and the consumer looks them up among all rows before it stores the record (`check_stored`), so
// that a letter replayed any number of times is one row.
import { hash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type EventRecord,
  EventRecordSchema,
  type PointRecord,
  RecordOriginSchema,
} from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid } from "./ids.ts";
import { textOf } from "./json-cursor.ts";
import { JsonFault } from "./json-fault.ts";
import { JsonNames } from "./json-keys.ts";
import { createJsonScanner } from "./json-scanner.ts";
import { DEFAULT_LIMITS, type EventLimits } from "./limits.ts";
import { bytesOf, decodeRecord, PoisonRecordError } from "./record.ts";
import { fault, type RuleFault } from "./rule-fault.ts";
import { checkEvent, type EventInput, type EventTime, type FieldNames } from "./validate.ts";

/** A position on the event log, whatever its incarnation. */
export interface LogPlace {
  epoch: string;
  topic: string;
  partition: number;
  offset: number;
}

export interface DeadRecord extends LogPlace {
  /** When the log took it, milliseconds since 1970. */
  appendTimeMs: number;
  key: Uint8Array;
  value: Uint8Array;
}

/** What a replay makes different. What is absent stays as it is. */
export interface ReplayChanges {
  event?: string;
  distinctId?: string;
  source?: string;
  /** Null takes the value away. */
  value?: number | null;
  time?: EventTime;
  /** JSON text of the whole object. */
  properties?: string;
  /** JSON texts by top-level key, put over `properties`. */
  property: ReadonlyMap<string, string>;
}

export interface ReplayRecord {
  value: Uint8Array;
  id: string;
  apiKey: string;
  event: string;
}

/** What a replay adds to a record that was as large as the rules allow: its origin. */
export const REPLAY_EXTRA_BYTES = 1024;

/** Spelled as `--set` and the columns of `events` have them. */
const FIELD_NAMES: FieldNames = {
  id: "id",
  event: "event",
  distinctId: "distinct_id",
  source: "source",
  value: "value",
  properties: "properties",
};

const cursor = createJsonScanner();
const NO_NAMES = new JsonNames([]);

/** Last moment of a DateTime64, and the first that EventRecord can say. */
const RECEIVED_US_MAX = 10_413_791_999_999_999n;
/** Fixed for ever: another value would give a replayed letter a second id, and so a second row. */
const ID_NAMESPACE = Buffer.from("8d0c4f5e2b7a4c1f9e63d1a5b07f2c94", "hex");

/** The record as far as it can be read, also when it breaks the rules; undefined when the bytes are no EventRecord. */
export function readDeadRecord(value: Uint8Array): EventRecord | undefined {
  try {
    return fromBinary(EventRecordSchema, value);
  } catch {
    // The decoder throws errors of several kinds, and all of them say that these bytes are something else.
    return undefined;
  }
}

/** Where a replayed record came from first; undefined for a record that is no replay. */
export function originOf({ origin }: Pick<EventRecord | PointRecord, "origin">): LogPlace | undefined {
  if (!origin) return undefined;
  const { logEpoch: epoch, topic, partition, offset } = origin;
  return { epoch, topic, partition, offset: Number(offset) };
}

/** The bytes that every record replayed from `place` has in it. */
export function originBytes(place: LogPlace): Uint8Array {
  return toBinary(EventRecordSchema, create(EventRecordSchema, { origin: originMessage(place) }));
}

/** Id of the event in a dead record: its own, or one made of its position when it has none that can be stored. */
export function idOfDeadRecord(record: EventRecord, place: LogPlace): Uint8Array {
  if (record.id.length === 16) return record.id;
  const { epoch, topic, partition, offset } = originOf(record) ?? place;
  const digest = hash(
    "sha1",
    Buffer.concat([ID_NAMESPACE, Buffer.from(`${epoch}:${topic}:${partition}:${offset}`)]),
    "buffer",
  );
  digest.writeUInt8((digest.readUInt8(6) & 0x0f) | 0x50, 6);
  digest.writeUInt8((digest.readUInt8(8) & 0x3f) | 0x80, 8);
  return digest.subarray(0, 16);
}

/** The record to append in the dead one's stead, under the dead one's key; a fault when the rules do not allow it. */
export function makeReplay(
  dead: DeadRecord,
  changes: ReplayChanges,
  limits: EventLimits = DEFAULT_LIMITS,
): ReplayRecord | RuleFault {
  const record = readDeadRecord(dead.value);
  if (!record) return fault("invalid", "value", "is not an EventRecord message, so there is no event to replay");
  const id = idOfDeadRecord(record, dead);
  const properties = changedProperties(record, changes);
  if (typeof properties !== "string") return properties;
  // A receive time that no table can hold is replaced by the log's own.
  const isReceivedSound = record.receivedUs >= 0n && record.receivedUs <= RECEIVED_US_MAX;
  const receivedUs = isReceivedSound ? Number(record.receivedUs) : dead.appendTimeMs * 1000;
  const input: EventInput = {
    id: formatUuid(id),
    event: changes.event ?? record.event,
    distinctId: changes.distinctId ?? record.distinctId,
    source: changes.source ?? record.source,
    value: changes.value === undefined ? record.value : (changes.value ?? undefined),
    time: changes.time ?? { us: Number(record.timeUs), text: () => `${record.timeUs}us` },
    properties,
  };
  const { apiKey, ip, userAgent } = record;
  const facts = { receivedUs, apiKey, ip, userAgent, checkStored: true };
  const checked = checkEvent(input, facts, FIELD_NAMES, limits, () => id);
  if ("fault" in checked) return checked;

  record.id = id;
  record.event = checked.event;
  record.distinctId = checked.distinctId;
  record.source = checked.source;
  if (checked.value === undefined) delete record.value;
  else record.value = checked.value;
  record.timeUs = BigInt(checked.timeUs);
  record.receivedUs = BigInt(receivedUs);
  if (changes.time || record.originalTime === "") record.originalTime = checked.originalTime;
  record.propertiesJson = bytesOf(checked.propertiesJson);
  // Left alone otherwise: the dialect that made the record may have known more than its properties say.
  if (changes.properties !== undefined || changes.property.size > 0) {
    const { sessionId, windowId, elementsChain, currentUrl, host, anonDistinctId, deviceId } = checked;
    Object.assign(record, { sessionId, windowId, elementsChain, currentUrl, host, anonDistinctId, deviceId });
  }
  record.checkStored = true;
  record.origin ??= originMessage(dead);
  return sealed(record, dead.key, limits);
}

/** Encodes the record and reads it back as the consumer will, so that no letter is replayed only to die again. */
function sealed(record: EventRecord, key: Uint8Array, limits: EventLimits): ReplayRecord | RuleFault {
  const value = toBinary(EventRecordSchema, record);
  const bytes = value.length + key.length;
  if (bytes > limits.eventBytes + REPLAY_EXTRA_BYTES) {
    return fault("too_large", "event", `has ${bytes} bytes as stored; one event may have ${limits.eventBytes}`);
  }
  try {
    decodeRecord(value);
  } catch (error) {
    if (error instanceof PoisonRecordError) return fault("invalid", "event", `could not be stored: ${error.message}`);
    throw error;
  }
  return { value, id: formatUuid(record.id), apiKey: record.apiKey, event: record.event };
}

export function originMessage({ epoch, topic, partition, offset }: LogPlace) {
  return create(RecordOriginSchema, { logEpoch: epoch, topic, partition, offset: BigInt(offset) });
}

/** JSON text of the properties after the changes; what is not changed stays as it was sent. */
function changedProperties(record: EventRecord, changes: ReplayChanges): string | RuleFault {
  const text = changes.properties ?? utf8(record.propertiesJson);
  if (text === undefined) return fault("invalid", "properties", "are not UTF-8: set them as a whole");
  if (changes.property.size === 0) return text;
  try {
    return withMembers(text === "" ? "{}" : text, changes.property);
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error;
    return fault("invalid", "properties", `${error.message}: set it as a whole`);
  }
}

/** The object with these members, in their old places or behind the others. Throws JsonFault. */
function withMembers(text: string, changes: ReadonlyMap<string, string>): string {
  const left = new Map(changes);
  const members: string[] = [];
  cursor.open(Buffer.from(text));
  // Told by the rules in their own words.
  if (cursor.kind() !== "object") return text;
  cursor.enter();
  while (cursor.nextMember(NO_NAMES)) {
    const key = cursor.key();
    const name = textOf(cursor.keyText());
    const value = textOf(cursor.slice());
    members.push(`${name}:${left.get(key) ?? value}`);
    left.delete(key);
  }
  cursor.close();
  for (const [key, value] of left) members.push(`${JSON.stringify(key)}:${value}`);
  return `{${members.join(",")}}`;
}

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // A TypeError is how the decoder says that the bytes are not UTF-8.
    return undefined;
  }
}
