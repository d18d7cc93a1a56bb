// How `millrace dead-letters replay` hands records to a gateway whose log only the gateway can write (the standalone).
// JSON: {"topic":"millrace.events","records":[{"key":"<base64>","value":"<base64>"}]}, answered by
// {"positions":[{"partition":0,"offset":1}]}. Without a topic they are events.
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

/** Undefined when the text is something else. */
export function decodeReplayRequest(text: string): ReplayRequest | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // The caller hears that it is no replay request; what else it is does not matter.
    return undefined;
  }
  const records = listIn(parsed, "records");
  if (!records?.every(isKeyedText)) return undefined;
  const { topic = EVENTS_TOPIC } = parsed as { topic?: unknown };
  if (typeof topic !== "string") return undefined;
  const bytes = (base64: string) => Buffer.from(base64, "base64");
  return { topic, records: records.map(({ key, value }) => ({ key: bytes(key), value: bytes(value) })) };
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

function isKeyedText(item: unknown): item is { key: string; value: string } {
  const { key, value } = (item ?? {}) as Record<string, unknown>;
  return typeof key === "string" && typeof value === "string";
}

function isPosition(item: unknown): item is { partition: number; offset: number } {
  const { partition, offset } = (item ?? {}) as Record<string, unknown>;
  return Number.isSafeInteger(partition) && Number.isSafeInteger(offset);
}
