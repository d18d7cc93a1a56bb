import { expect, it } from "vitest";
import { partitionOf } from "#lib/eventlog/kafka/partitioner.ts";
import type { LogReader } from "#lib/eventlog/log.ts";
import { parseUuid } from "#lib/events/ids.ts";
import { findOnLog } from "./canary.ts";

it.each([0, 12])("the canary is looked for where a gateway with KAFKA_PARTITIONS=%i puts it", async (partitions) => {
  const id = "0192f0c1-2345-7abc-8def-0123456789ab";
  const key = parseUuid(id) as Buffer;
  const present = 23;
  expect(partitionOf(key, present)).not.toBe(partitionOf(key, 12));
  const place = partitionOf(key, partitions || present);
  const ends = new Map(Array.from({ length: present }, (_, partition) => [partition, 5]));
  const log = {
    tail: async (_topic: string, partition: number) =>
      partition === place ? [{ offset: 5, appendTimeMs: 0, key, value: key }] : [],
  } as unknown as LogReader;
  const found = await findOnLog(log, { id, sentMs: 0, ends } as never, partitions, AbortSignal.timeout(1_000));
  expect(found.value).toMatchObject({ partition: place, offset: 5 });
});
