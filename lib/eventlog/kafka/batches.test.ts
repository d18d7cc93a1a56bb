import { expect, it } from "vitest";
import type { AppendRecord } from "../log.ts";
import { planRounds } from "./batches.ts";
import { partitionOf } from "./partitioner.ts";

const fresh = () => ({ producerId: 1, producerEpoch: 0, sequences: new Map<string, number>() });
const records = (count: number, bytes: number): AppendRecord[] =>
  Array.from({ length: count }, (_, i) => ({ key: Buffer.from(`key-${i % 17}`), value: Buffer.alloc(bytes, i) }));

it("each record is in one batch of its partition, in the caller's order over all rounds", () => {
  const all = records(4_000, 1_000);
  const rounds = planRounds(fresh(), "t", all, 3);
  expect(rounds.length).toBeGreaterThan(1);
  const last = [-1, -1, -1];
  let seen = 0;
  for (const { partition, indexes, records: batched } of rounds.flat()) {
    expect(batched).toHaveLength(indexes.length);
    for (const index of indexes) {
      expect(index).toBeGreaterThan(last[partition] as number);
      expect(partition).toBe(partitionOf(all[index]?.key as Uint8Array, 3));
      last[partition] = index;
      seen += 1;
    }
  }
  expect(seen).toBe(all.length);
});

it("a round has one batch a partition, none over what a broker takes by default", () => {
  for (const round of planRounds(fresh(), "t", records(4_000, 1_000), 3)) {
    expect(new Set(round.map(({ partition }) => partition)).size).toBe(round.length);
    for (const { records: batched } of round) {
      const bytes = batched.reduce((sum, { key, value }) => sum + key.length + value.length + 20, 0);
      expect(bytes).toBeLessThan(1_000_000);
    }
  }
});

it("a record over the batch limit goes alone", () => {
  const all = [...records(1, 10), ...records(1, 2_000_000), ...records(1, 10)];
  expect(planRounds(fresh(), "t", all, 1).map(([batch]) => batch?.indexes)).toEqual([[0], [1], [2]]);
});

it("sequence numbers go on from the last acknowledged one, gap-free over the rounds", () => {
  const identity = fresh();
  identity.sequences.set("t/0", 41);
  const batches = planRounds(identity, "t", records(3_000, 1_000), 1).flat();
  let next = 41;
  for (const { firstSequence, records: batched } of batches) {
    expect(firstSequence).toBe(next);
    next += batched.length;
  }
  expect(next).toBe(41 + 3_000);
  expect(identity.sequences.get("t/0")).toBe(41);
});

it("sequence numbers never exceed 31 bits", () => {
  const identity = fresh();
  identity.sequences.set("t/0", 0x7fffffff - 1);
  expect(planRounds(identity, "t", records(1, 10), 1)).toHaveLength(1);
  expect(() => planRounds(identity, "t", records(2, 10), 1)).toThrow(/sequence/);
});

it("keys and values are handed over without a copy", () => {
  const record = { key: new Uint8Array(10), value: new Uint8Array(10) };
  const [[batch] = []] = planRounds(fresh(), "t", [record], 1);
  expect(batch?.records[0]).toBe(record);
});
