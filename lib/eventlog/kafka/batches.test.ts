import { expect, it } from "vitest";
import type { AppendRecord } from "../log.ts";
import { planChunks } from "./batches.ts";
import { partitionOf } from "./partitioner.ts";

const records = (count: number, bytes: number): AppendRecord[] =>
  Array.from({ length: count }, (_, i) => ({ key: Buffer.from(`key-${i % 17}`), value: Buffer.alloc(bytes, i) }));

it("each record is in one chunk of its partition, in the caller's order over all chunks", () => {
  const all = records(4_000, 1_000);
  const chunks = planChunks(all, 3);
  expect(chunks.length).toBeGreaterThan(3);
  const last = [-1, -1, -1];
  let seen = 0;
  for (const { partition, indexes, records: chunked } of chunks) {
    expect(chunked).toHaveLength(indexes.length);
    for (const index of indexes) {
      expect(index).toBeGreaterThan(last[partition] as number);
      expect(partition).toBe(partitionOf(all[index]?.key as Uint8Array, 3));
      last[partition] = index;
      seen += 1;
    }
  }
  expect(seen).toBe(all.length);
});

it("no chunk is over what a broker takes by default", () => {
  for (const { records: chunked } of planChunks(records(4_000, 1_000), 3)) {
    const bytes = chunked.reduce((sum, { key, value }) => sum + key.length + value.length + 20, 0);
    expect(bytes).toBeLessThan(1_000_000);
  }
});

it("a record over the batch limit goes alone", () => {
  const all = [...records(1, 10), ...records(1, 2_000_000), ...records(1, 10)];
  expect(planChunks(all, 1).map(({ indexes }) => indexes)).toEqual([[0], [1], [2]]);
});

it("keys and values are handed over without a copy", () => {
  const record = { key: new Uint8Array(10), value: new Uint8Array(10) };
  expect(planChunks([record], 1)[0]?.records[0]).toBe(record);
});
