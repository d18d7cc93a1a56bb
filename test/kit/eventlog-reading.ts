// Writing records to an event log and reading them back, for tests of any adapter.

import type { AppendRecord, OpenLog, Position, ReadOptions, StoredRecord } from "#lib/eventlog/log.ts";
import { patience } from "./patience.ts";

/** How long a read may wait for records that are, or soon will be, on the log. */
export const WAIT_MS = patience(30_000);

export type Read = (options: ReadOptions) => Promise<StoredRecord[]>;

export function tailing(log: OpenLog, topic: string, partition: number): Read {
  return (options) => log.tail(topic, partition, options);
}

/** A read may return fewer records than wanted: goes on until all of them are there. */
export async function readRange(read: Read, from: number, count: number): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  while (records.length < count) {
    const next = { from: from + records.length, maxRecords: count - records.length, maxBytes: 1e6, maxWaitMs: WAIT_MS };
    const more = await read(next);
    if (more.length === 0) throw new Error(`nothing at offset ${next.from} within ${WAIT_MS} ms`);
    records.push(...more);
  }
  return records;
}

export async function everything(log: OpenLog, topic: string): Promise<{ partition: number; stored: StoredRecord }[]> {
  const found: { partition: number; stored: StoredRecord }[] = [];
  for (const { partition, start, end } of await log.bounds(topic)) {
    const records = await readRange(tailing(log, topic, partition), start, end - start);
    for (const stored of records) found.push({ partition, stored });
  }
  return found;
}

/** Records `value-0` and on under one key, so in one partition of a fresh topic. */
export async function appendToOne(log: OpenLog, topic: string, count: number, valueBytes = 0): Promise<Position> {
  const records = Array.from({ length: count }, (_, i) => record("one", `value-${i}`.padEnd(valueBytes)));
  const [first] = await log.append(topic, records);
  if (!first) throw new Error("append returned no position");
  return first;
}

export async function boundsOf(log: OpenLog, topic: string, partition: number) {
  return (await log.bounds(topic)).find((bounds) => bounds.partition === partition);
}

export function keyed(count: number): AppendRecord[] {
  return Array.from({ length: count }, (_, i) => record(`key-${i}`, `value-${i}`));
}

export function record(key: string, value: string): AppendRecord {
  return { key: bytes(key), value: bytes(value) };
}

export function at({ partition, offset }: Position): string {
  return `${partition}@${offset}`;
}

export function bytes(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

export function text(value: Uint8Array | undefined): string {
  return new TextDecoder().decode(value);
}

export function hex(value: Uint8Array | undefined): string {
  return Buffer.from(value ?? []).toString("hex");
}
