// A Kafka topic that is deleted and created again under its name: another log at the same offsets.
import pino from "pino";
import { expect } from "vitest";
import { createKafkaClient } from "#lib/eventlog/kafka/client.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";

/** Resolves when the new one is there, of one partition. */
export async function makeAgain(brokers: readonly string[], log: OpenLog, topic: string): Promise<void> {
  const logger = pino({ level: "silent" });
  const client = createKafkaClient({ brokers: [...brokers], clientId: "deleter", logger }, 5_000);
  const admin = client.kafka.admin();
  await admin.connect();
  await admin.deleteTopics({ topics: [topic] });
  await expect.poll(() => log.createTopics([{ topic, partitions: 1 }]), { timeout: 20_000 }).toEqual([topic]);
  client.kill();
}
