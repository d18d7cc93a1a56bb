// Settings of every command that connects to Kafka.

import type { z } from "zod";
import { hostPorts } from "#lib/config/host-port.ts";
import { count, duration, flag, oneOf, secret, text } from "#lib/config/settings.ts";
import { authorities, readAuthorities } from "#lib/config/tls-settings.ts";
import type { Logger } from "#lib/process/log.ts";
import type { KafkaLogOptions } from "./log.ts";

/** Settings of every service that speaks to Kafka. */
export const kafkaSettings = {
  kafkaBrokers: hostPorts({ usualPort: 9092 }).describe("host:port of Kafka or Redpanda brokers, comma-separated."),
  kafkaSsl: flag(false).describe("TLS to the brokers."),
  kafkaSslCa: authorities().describe(
    "PEM file with the authorities to trust for the brokers' certificates; implies KAFKA_SSL.",
  ),
  kafkaSaslMechanism: oneOf(["none", "plain", "scram-sha-256", "scram-sha-512"], "none").describe("SASL mechanism."),
  kafkaSaslUsername: text("").describe("SASL user name."),
  kafkaSaslPassword: secret("").describe("SASL password."),
  kafkaPartitions: count(12, { min: 1, max: 10_000 }).describe("Partitions of a topic when it is created."),
  kafkaReplicationFactor: count(0, { min: 0, max: 10 }).describe(
    "Replicas of a created topic; 0: three, or all brokers if fewer.",
  ),
  kafkaSessionTimeout: duration("6s", { min: 1000 }).describe(
    "Silence after which a consumer's partitions move to others.",
  ),
};

export type KafkaConfig = z.output<z.ZodObject<typeof kafkaSettings>>;

/** Options of createKafkaLog for these settings. */
export function kafkaOptions(config: KafkaConfig, clientId: string, logger: Logger): KafkaLogOptions {
  const { kafkaSaslMechanism: mechanism, kafkaSslCa: ca } = config;
  return {
    brokers: [...config.kafkaBrokers],
    clientId,
    logger,
    sessionTimeoutMs: config.kafkaSessionTimeout,
    replicationFactor: config.kafkaReplicationFactor || undefined,
    ssl: ca === undefined ? config.kafkaSsl : { ca: readAuthorities(ca) },
    sasl:
      mechanism === "none"
        ? undefined
        : { mechanism, username: config.kafkaSaslUsername, password: config.kafkaSaslPassword },
  };
}

/** For services that are nothing without Kafka. */
export function requireBrokers(config: Pick<KafkaConfig, "kafkaBrokers">, context: z.RefinementCtx): void {
  if (config.kafkaBrokers.length > 0) return;
  const message = "is required: host:port of a Kafka or Redpanda broker (`millrace start` needs none)";
  context.addIssue({ code: "custom", path: ["kafkaBrokers"], message });
}
