// How `millrace dead-letters replay` hands records to a gateway whose log only the gateway can write (the standalone).
// JSON: {"topic":"millrace.events","records":[{"key":"<base64>","value":"<base64>"}]}, answered by
// {"positions":[{"partition":0,"offset":1}]}. Without a topic they are events.
import { JsonFault } from "./json-fault.ts";
import { JsonNames } from "./json-keys.ts";
import { createJsonScanner } from "./json-scanner.ts";
import { EVENTS_TOPIC } from "./topics.ts";

/** Takes `POST` with a secret key. */
export const REPLAY_PATH = "/admin/replay";

export interface KeyedValue {
  key: Uint8Array;
  value: Uint8Array;
}

export interface ReplayRequest {
  /** Of all of the records; any text. */
  topic: string;
  records: KeyedValue[];
}

export function encodeReplayRequest(records: readonly KeyedValue[], topic: string): string {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
  return JSON.stringify({
    topic,
    records: records.map(({ key, value }) => ({ key: base64(key), value: base64(value) })),
  });
}

const cursor = createJsonScanner();
const NAMES = new JsonNames(["topic", "records"]);
const [TOPIC, RECORDS] = [0, 1];
const RECORD_NAMES = new JsonNames(["key", "value"]);

/** Undefined when the bytes are something else. Other members are passed over. */
export function decodeReplayRequest(body: Uint8Array): ReplayRequest | undefined {
  try {
    cursor.open(body);
    const request = cursor.kind() === "object" ? readRequest() : undefined;
    if (!request) return undefined;
    cursor.close();
    return cursor.takeFault(0) ? undefined : request;
  } catch (error) {
    // The caller hears that it is no replay request; what else it is does not matter.
    if (error instanceof JsonFault) return undefined;
    throw error;
  }
}

function readRequest(): ReplayRequest | undefined {
  let topic = EVENTS_TOPIC;
  let records: KeyedValue[] | undefined;
  cursor.enter();
  while (cursor.nextMember(NAMES)) {
    if (cursor.name === TOPIC) {
      if (cursor.kind() !== "string") return undefined;
      topic = cursor.text();
    } else if (cursor.name === RECORDS) {
      records = cursor.kind() === "array" ? readRecords() : undefined;
      if (!records) return undefined;
    } else cursor.skip();
  }
  return records && { topic, records };
}

function readRecords(): KeyedValue[] | undefined {
  const records: KeyedValue[] = [];
  cursor.enter();
  while (cursor.nextItem()) {
    if (cursor.kind() !== "object") return undefined;
    const texts: (string | undefined)[] = [undefined, undefined];
    cursor.enter();
    while (cursor.nextMember(RECORD_NAMES)) {
      const { name } = cursor;
      if (name < 0) cursor.skip();
      else if (cursor.kind() !== "string") return undefined;
      else texts[name] = cursor.text();
    }
    const [key, value] = texts;
    if (key === undefined || value === undefined) return undefined;
    records.push({ key: Buffer.from(key, "base64"), value: Buffer.from(value, "base64") });
  }
  return records;
}

/** Positions of the records, in their order; undefined when the answer has not one for each. */
export function decodeReplayAnswer(
  answer: unknown,
  records: number,
): { partition: number; offset: number }[] | undefined {
  const positions = listIn(answer, "positions");
  return positions?.length === records && positions.every(isPosition) ? positions : undefined;
}

function listIn(value: unknown, key: string): unknown[] | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const list = (value as Record<string, unknown>)[key];
  return Array.isArray(list) ? list : undefined;
}

function isPosition(item: unknown): item is { partition: number; offset: number } {
  const { partition, offset } = (item ?? {}) as Record<string, unknown>;
  return Number.isSafeInteger(partition) && Number.isSafeInteger(offset);
}
