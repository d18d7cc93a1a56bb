import type { Cluster } from "kafkajs";
import { expect, it } from "vitest";
import { createFetcher } from "./fetcher.ts";

const [LEADER, REPLICA] = ["1", "2"];
const RECORD = { offset: 0, appendTimeMs: 0, key: Buffer.from("k"), value: Buffer.from("v") };

const TOPIC = { topic: "t", topicErrorCode: 0, partitionMetadata: [{ partitionId: 0, leader: Number(LEADER) }] };

/** Of one partition. The leader names the replica to those who say where they are. */
function clusterOf(fetchFromReplica: () => Promise<object>) {
  const asked: string[] = [];
  const answer = (partition: object) => ({
    responses: [{ topicName: "t", partitions: [{ partition: 0, highWatermark: "1", messages: [], ...partition }] }],
  });
  const brokers: Record<string, (rack: string) => Promise<object>> = {
    [LEADER]: async (rack) => answer(rack === "" ? { messages: [RECORD] } : { preferredReadReplica: Number(REPLICA) }),
    [REPLICA]: async () => answer(await fetchFromReplica()),
  };
  const cluster = {
    findLeaderForPartitions: () => ({ [LEADER]: [0] }),
    findBroker: async ({ nodeId }: { nodeId: string }) => ({
      // Asked for the topic's id, which brokers of no version that has one do not know.
      lookupRequest: () => () => ({}),
      connectionPool: { send: async () => ({ brokers: [], topicMetadata: [TOPIC] }) },
      fetch({ rackId }: { rackId: string }) {
        asked.push(`${nodeId} ${rackId}`.trim());
        return brokers[nodeId]?.(rackId);
      },
    }),
    addTargetTopic: async () => undefined,
    refreshMetadata: async () => undefined,
  };
  return { cluster: cluster as unknown as Cluster, asked };
}

async function readFirst(cluster: Cluster) {
  const fetcher = createFetcher(cluster, { rack: "here", onFailure: () => undefined });
  try {
    return await fetcher.open("t", 0).read({ from: 0, maxRecords: 1, maxBytes: 1e6, maxWaitMs: 60_000 });
  } finally {
    fetcher.close();
  }
}

it("reads from the replica that the leader names", async () => {
  const { cluster, asked } = clusterOf(async () => ({ messages: [RECORD] }));
  expect(await readFirst(cluster)).toEqual([RECORD]);
  expect(asked).toEqual([`${LEADER} here`, `${REPLICA} here`]);
});

it("reads from the leader when the replica that it names cannot be reached", async () => {
  const { cluster, asked } = clusterOf(async () => {
    throw new Error("no connection");
  });
  expect(await readFirst(cluster)).toEqual([RECORD]);
  expect(asked).toEqual([`${LEADER} here`, `${REPLICA} here`, LEADER]);
});
