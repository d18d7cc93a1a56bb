// One round of an append: one batch a partition, sent side by side to the partitions' leaders.

import type { Broker, Cluster } from "kafkajs";
import type { Batch } from "./batches.ts";
import { isTransient } from "./client.ts";
import type { ProduceResponse } from "./patches.ts";
import { protocolErrorOf } from "./refusals.ts";

export interface RoundHooks {
  produce(broker: Broker, batches: readonly Batch[]): Promise<ProduceResponse>;
  /** The batch is durable, its first record at `baseOffset`. */
  stored(batch: Batch, baseOffset: number): void;
  /** The batch was refused, and would be again. */
  refused(batch: Batch, error: unknown): void;
}

export interface Round {
  /** Partitions whose batch has neither been stored nor refused. */
  open(): number[];
  /** Error of the first batch that was refused. */
  refusal(): unknown;
  /**
   * Sends what is open, unchanged each time: the broker knows a batch again by its sequence numbers. Rejects when
   * something is still open afterwards.
   */
  send(cluster: Cluster): Promise<void>;
}

export function createRound(topic: string, batches: readonly Batch[], hooks: RoundHooks): Round {
  const open = new Map(batches.map((batch) => [batch.partition, batch]));
  let refusal: unknown;
  let first = true;

  async function sendTo(broker: Broker, partitions: readonly number[]): Promise<void> {
    const sent = partitions.flatMap((partition) => open.get(partition) ?? []);
    if (sent.length === 0) return; // A try that was given up has got its answer after all.
    try {
      const { topics } = await hooks.produce(broker, sent);
      for (const { partition, baseOffset } of topics.flatMap((one) => one.partitions)) {
        if (Number(baseOffset) < 0) throw new Error(`no offset was given for ${topic}[${partition}]`);
        const batch = open.get(partition);
        open.delete(partition);
        if (batch) hooks.stored(batch, Number(baseOffset));
      }
    } catch (error) {
      if (protocolErrorOf(error) === undefined) throw error;
      // kafkajs tells the error of one partition, and not of which. Asked again one by one, those that have their batch
      // only confirm it.
      if (sent.length > 1) return settleAll(partitions.map((partition) => sendTo(broker, [partition])));
      if (isTransient(error)) throw error;
      refusal ??= error;
      for (const batch of sent) if (open.delete(batch.partition)) hooks.refused(batch, error);
    }
  }

  return {
    open: () => [...open.keys()],
    refusal: () => refusal,
    async send(cluster) {
      await cluster.connect(); // Returns at once when connected.
      await cluster.addTargetTopic(topic);
      if (first) await cluster.refreshMetadataIfNecessary();
      else await cluster.refreshMetadata();
      first = false;
      const leaders = Object.entries(cluster.findLeaderForPartitions(topic, [...open.keys()]));
      await settleAll(leaders.map(async ([nodeId, led]) => sendTo(await cluster.findBroker({ nodeId }), led)));
      if (open.size > 0) throw new Error(`no leader is known for ${topic}[${[...open.keys()].join(", ")}]`);
    },
  };
}

/** Waits for all, then rejects with the first failure. */
async function settleAll(work: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}
