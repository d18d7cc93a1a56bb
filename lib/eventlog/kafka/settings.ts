// Settings of every command that connects to Kafka.

import type { z } from "zod";
import { hostPorts } from "#lib/config/host-port.ts";
import { count, csv, duration, expected, flag, httpUrl, oneOf, secret, setting, text } from "#lib/config/settings.ts";
import { authorities, needsBoth } from "#lib/config/tls-settings.ts";
import type { Logger } from "#lib/process/log.ts";
import type { KafkaLogOptions } from "./log.ts";
import type { KafkaSasl } from "./login.ts";
import { clientTls, readClientTls } from "./tls.ts";
import { awsTokens, clientCredentials, tokenFile } from "./tokens.ts";

const MECHANISMS = ["none", "plain", "scram-sha-256", "scram-sha-512", "oauthbearer", "aws-msk-iam"] as const;

/** Beginning of the names of topics or groups. */
function prefix() {
  const info = { expected: "letters, digits and . _ - of at most 100 characters", placeholder: "text" };
  return setting(info, "", (raw) => {
    const value = String(raw);
    return /^[\w.-]{0,100}$/.test(value) ? { value } : expected(info);
  });
}

function extensionFault(pair: string): string | undefined {
  return pairOf(pair) === undefined ? `${pair.slice(0, 40)}: expected name=value, the name of letters only` : undefined;
}

/** Settings of every service that speaks to Kafka. */
export const kafkaSettings = {
  kafkaBrokers: hostPorts({ usualPort: 9092 }).describe("host:port of Kafka or Redpanda brokers, comma-separated."),
  kafkaSsl: flag(false).describe("TLS to the brokers."),
  kafkaSslCa: authorities().describe(
    "PEM file with the authorities to trust for the brokers' certificates; implies KAFKA_SSL.",
  ),
  kafkaSslCert: text().describe("PEM file with the client certificate to show to the brokers; implies KAFKA_SSL."),
  kafkaSslKey: text().describe("PEM file with its private key. Both are read again for each connection."),
  kafkaSaslMechanism: oneOf(MECHANISMS, "none").describe("How to log in: SASL mechanism, or IAM of Amazon MSK."),
  kafkaSaslUsername: text("").describe("SASL user name."),
  kafkaSaslPassword: secret("").describe("SASL password."),
  kafkaOauthTokenFile: text().describe("File with the token for oauthbearer, read again for each connection."),
  kafkaOauthTokenUrl: httpUrl().describe(
    "Token endpoint of an OpenID provider, which gives tokens for oauthbearer to the client below.",
  ),
  kafkaOauthClientId: text().describe("Client id for the token endpoint."),
  kafkaOauthClientSecret: secret().describe("Client secret for the token endpoint."),
  kafkaOauthScope: text().describe("Scope to ask the token endpoint for."),
  kafkaOauthExtensions: csv([], { faultOf: extensionFault }).describe(
    "SASL extensions sent with the token: name=value pairs, comma-separated, such as logicalCluster=lkc-1.",
  ),
  kafkaAwsRegion: text().describe("Region of the cluster for aws-msk-iam; unset: from the name of the first broker."),
  kafkaTopicPrefix: prefix().describe("What the names of all topics begin with, for clusters that are shared."),
  kafkaGroupPrefix: prefix().describe("What the names of all consumer groups begin with."),
  kafkaRack: text().describe(
    "Zone of this process, as in broker.rack: replicas there are read, if the brokers allow it.",
  ),
  kafkaCompression: oneOf(["none", "gzip", "snappy", "lz4", "zstd"], "none").describe(
    "Compression of what is appended.",
  ),
  kafkaPartitions: count(0, { min: 0, max: 10_000 }).describe(
    "Partitions of a topic to create and to use, the same in all services; 0: create 12, use all.",
  ),
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
  const { kafkaSslCa: ca, kafkaSslCert: cert, kafkaSslKey: key } = config;
  const hasFiles = ca !== undefined || cert !== undefined;
  return {
    brokers: [...config.kafkaBrokers],
    clientId,
    logger,
    sessionTimeoutMs: config.kafkaSessionTimeout,
    replicationFactor: config.kafkaReplicationFactor || undefined,
    compression: config.kafkaCompression,
    topicPrefix: config.kafkaTopicPrefix,
    groupPrefix: config.kafkaGroupPrefix,
    rack: config.kafkaRack,
    partitions: config.kafkaPartitions || undefined,
    ssl: hasFiles
      ? clientTls({ ca, cert, key }, logger)
      : config.kafkaSsl || config.kafkaSaslMechanism === "aws-msk-iam",
    sasl: saslOptions(config),
  };
}

function saslOptions(config: KafkaConfig): KafkaSasl | undefined {
  const { kafkaSaslMechanism: mechanism, kafkaOauthTokenFile: file, kafkaOauthTokenUrl: url } = config;
  if (mechanism === "none") return undefined;
  if (mechanism === "aws-msk-iam") return { mechanism: "oauthbearer", token: awsTokens(awsRegion(config) ?? "") };
  if (mechanism !== "oauthbearer") {
    return { mechanism, username: config.kafkaSaslUsername, password: config.kafkaSaslPassword };
  }
  const { kafkaOauthClientId: clientId = "", kafkaOauthClientSecret: clientSecret = "" } = config;
  const extensions = Object.fromEntries(config.kafkaOauthExtensions.map((pair) => pairOf(pair) ?? ["", ""]));
  const token =
    file === undefined
      ? clientCredentials({ url: url ?? "", clientId, clientSecret, scope: config.kafkaOauthScope })
      : tokenFile(file);
  return { mechanism, token, extensions };
}

/** b-1.name.abc.c2.kafka.eu-central-1.amazonaws.com */
function awsRegion({ kafkaAwsRegion, kafkaBrokers }: KafkaConfig): string | undefined {
  return kafkaAwsRegion ?? /\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com/.exec(kafkaBrokers[0] ?? "")?.[1];
}

/** As RFC 7628 allows them. */
function pairOf(text: string): [string, string] | undefined {
  const [, name = "", value = ""] = /^([A-Za-z]+)=([\x21-\x7e \t]+)$/.exec(text) ?? [];
  return name === "" || name === "auth" ? undefined : [name, value];
}

/** For superRefine: what a way to log in needs is there, and nothing that another one needs. */
export function checkLogin(config: KafkaConfig, context: z.RefinementCtx): void {
  const fault = (key: keyof KafkaConfig, message: string) =>
    void context.addIssue({ code: "custom", path: [key], message });
  needsBoth("kafkaSslCert", "kafkaSslKey")(config, context);
  try {
    readClientTls({ ca: undefined, cert: config.kafkaSslCert, key: config.kafkaSslKey });
  } catch (error) {
    fault("kafkaSslCert", (error as Error).message);
  }
  const { kafkaSaslMechanism: mechanism } = config;
  if (mechanism === "aws-msk-iam" && config.kafkaBrokers.length > 0 && awsRegion(config) === undefined) {
    fault("kafkaAwsRegion", "is required: the broker's name does not tell the region");
  }
  const { kafkaOauthTokenFile: file, kafkaOauthTokenUrl: url } = config;
  if (mechanism !== "oauthbearer") {
    for (const key of ["kafkaOauthTokenFile", "kafkaOauthTokenUrl"] as const)
      if (config[key] !== undefined) fault(key, "is for KAFKA_SASL_MECHANISM=oauthbearer, which is not set");
    return;
  }
  if ((file === undefined) === (url === undefined)) {
    fault("kafkaSaslMechanism", "oauthbearer needs either KAFKA_OAUTH_TOKEN_FILE or KAFKA_OAUTH_TOKEN_URL");
  }
  if (url !== undefined) checkTokenUrl(url, config, fault);
}

function checkTokenUrl(
  url: string,
  { kafkaOauthClientId: id, kafkaOauthClientSecret: secret }: KafkaConfig,
  fault: (key: keyof KafkaConfig, message: string) => void,
): void {
  if (id === undefined) fault("kafkaOauthClientId", "is required with KAFKA_OAUTH_TOKEN_URL");
  if (secret === undefined) fault("kafkaOauthClientSecret", "is required with KAFKA_OAUTH_TOKEN_URL");
  const { protocol, hostname } = new URL(url);
  if (protocol === "http:" && !/^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)) {
    fault("kafkaOauthTokenUrl", "must begin with https://: the client secret is sent to it");
  }
}

/** For services that are nothing without Kafka. */
export function requireKafka(config: KafkaConfig, context: z.RefinementCtx): void {
  checkLogin(config, context);
  if (config.kafkaBrokers.length > 0) return;
  const message = "is required: host:port of a Kafka or Redpanda broker (`millrace start` needs none)";
  context.addIssue({ code: "custom", path: ["kafkaBrokers"], message });
}
