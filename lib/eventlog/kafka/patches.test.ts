// What the repairs of kafkajs change, against its own classes.
import { createRequire } from "node:module";
import { expect, it } from "vitest";
import { patchKafkajs } from "./patches.ts";

const require = createRequire(import.meta.url);

interface Pool {
  seedBroker: object;
  brokers: Record<string, { versions: object | null }>;
  connect(): Promise<void>;
  refreshMetadata(topics: string[]): Promise<void>;
}

it("each broker is asked for its own versions: what the first one knows others may not", async () => {
  patchKafkajs();
  const BrokerPool = require("kafkajs/src/cluster/brokerPool") as new (options: object) => Pool;
  const logger = { namespace: () => logger };
  const build = async ({ host = "a", port = 1 } = {}) => ({ host, port, connectionTimeout: 1 });
  const pool = new BrokerPool({ logger, connectionPoolBuilder: { build } });
  pool.seedBroker = {
    versions: { 1: { minVersion: 0, maxVersion: 17 } },
    connectionPool: { host: "a", port: 1 },
    isConnected: () => false,
    connect: async () => undefined,
    metadata: async () => ({
      brokers: ["a", "b"].map((host, i) => ({ nodeId: i + 1, host, port: 1 })),
      topicMetadata: [],
    }),
  };
  await pool.connect();
  await pool.refreshMetadata([]);
  expect(pool.brokers[1]).toBe(pool.seedBroker);
  expect(pool.brokers[2]?.versions).toBeNull();
});
