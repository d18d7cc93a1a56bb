// Connections to a Kafka cluster through kafkajs, and what its errors mean to the rest of Millrace.

import { connect as connectTcp, isIP, Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import kafkajs from "kafkajs";
import type { Logger } from "#lib/process/log.ts";
import { LogUnavailableError } from "../log.ts";
import { registerCodecs } from "./codecs.ts";
import { type KafkaSasl, saslOf } from "./login.ts";
import type { KafkaNames } from "./names.ts";
import { patchKafkajs } from "./patches.ts";
import { loginErrorOf, protocolErrorOf, remedyOf, tlsRemedyOf } from "./refusals.ts";

export interface KafkaConnection extends KafkaNames {
  /** `host:port` of some brokers; the others are found through them. */
  brokers: string[];
  clientId: string;
  /** Where this process runs, as `broker.rack` names it: replicas there are read, when the brokers allow it. Default: leaders. */
  rack?: string | undefined;
  /** A function is asked for each connection: certificates are replaced. */
  ssl?: boolean | (() => ConnectionOptions) | undefined;
  sasl?: KafkaSasl | undefined;
  logger: Logger;
}

/** One kafkajs instance whose connections can be cut. */
export interface KafkaClient {
  readonly kafka: kafkajs.Kafka;
  /**
   * Cuts every connection at once and for good: whatever waits for an answer rejects, and retries inside kafkajs get no
   * new connection. kafkajs's own disconnect waits for answers, for as long as a hung broker cares to take.
   */
  kill(): void;
}

const RETRY = { retries: 3, initialRetryTime: 100, maxRetryTime: 1_000 };

/** Opens nothing yet. `requestTimeoutMs` bounds each request and each connection attempt. */
export function createKafkaClient(
  connection: KafkaConnection,
  requestTimeoutMs: number,
  { retries = RETRY.retries } = {},
): KafkaClient {
  patchKafkajs();
  registerCodecs();
  const sockets = new Set<Socket>();
  let killed = false;
  const kafka = new kafkajs.Kafka({
    brokers: connection.brokers.map(withoutColons),
    clientId: connection.clientId,
    ssl: connection.ssl !== undefined && connection.ssl !== false,
    ...(connection.sasl === undefined ? {} : { sasl: saslOf(connection.sasl) }),
    connectionTimeout: Math.min(requestTimeoutMs, 3_000),
    authenticationTimeout: requestTimeoutMs,
    requestTimeout: requestTimeoutMs,
    retry: { ...RETRY, retries },
    logLevel: kafkajs.logLevel.INFO,
    // kafkajs logs as errors what it then retries; what deserves a person's eye is logged by this adapter.
    logCreator: () => (entry) => {
      const { message, timestamp: _timestamp, ...fields } = entry.log;
      connection.logger.debug({ kafkajs: { namespace: entry.namespace, ...fields } }, message);
    },
    socketFactory: ({ host: name, port, ssl, onConnect }) => {
      const host = withColons(name);
      // An error of the next tick, when kafkajs listens.
      if (killed) return new Socket().destroy(new Error("the connection was given up"));
      const own = connection.ssl;
      const servername = isIP(host) === 0 ? { servername: host } : {};
      const socket = ssl
        ? connectTls({ host, port, ...servername, ...(typeof own === "function" ? own() : {}) }, onConnect)
        : connectTcp({ host, port }, onConnect);
      socket.setKeepAlive(true, 60_000);
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      return socket;
    },
  });
  return {
    kafka,
    kill() {
      killed = true;
      // Without an error kafkajs would not notice: it listens for "error" and "end" and not for "close".
      for (const socket of sockets) socket.destroy(new Error("the connection was given up"));
    },
  };
}

const IPV6_MARK = "ipv6.";

/** kafkajs cuts seed addresses at their first colon: those of IPv6 get there in disguise. */
function withoutColons(broker: string): string {
  const [, address, port] = /^\[(.*)\]:(\d+)$/.exec(broker) ?? [];
  return address === undefined ? broker : `${IPV6_MARK}${address.replaceAll(":", "-")}:${port}`;
}

function withColons(host: string): string {
  return host.startsWith(IPV6_MARK) ? host.slice(IPV6_MARK.length).replaceAll("-", ":") : host;
}

/**
 * A Cluster is kafkajs's view of the brokers: metadata, leaders, and single requests. Its public API hands one to
 * partition assigners only, so a consumer that never runs is made for the sake of its cluster.
 */
export function openCluster(client: KafkaClient): kafkajs.Cluster {
  let opened: kafkajs.Cluster | undefined;
  client.kafka.consumer({
    groupId: "unused",
    allowAutoTopicCreation: false,
    readUncommitted: true,
    metadataMaxAge: 30_000,
    partitionAssigners: [
      (context) => {
        opened = context.cluster;
        return kafkajs.PartitionAssigners.roundRobin(context);
      },
    ],
  });
  if (opened === undefined) throw new Error("kafkajs made a consumer without asking for its assigner");
  return opened;
}

/** Rejects with `late()` when `work` takes longer than `timeoutMs`; what `work` does afterwards is ignored. */
export async function withTimeout<T>(work: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(late()), Math.max(0, timeoutMs));
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the same request may succeed later. Everything without a name of the protocol is about connections. */
export function isTransient(error: unknown): boolean {
  const login = loginErrorOf(error);
  if (login !== undefined) return login.retriable;
  if (tlsRemedyOf(error) !== undefined) return false;
  const name = protocolErrorOf(error);
  if (error instanceof Error && error.name === "KafkaJSSASLAuthenticationError") return false;
  if (name === undefined || name === "UNKNOWN_TOPIC_OR_PARTITION") return true;
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ("type" in at && at.type === name) return "retriable" in at && at.retriable === true;
  }
  return false;
}

/** The connection could not be made or broke, as opposed to the broker answering with an error or not at all. */
export function isConnectionError(error: unknown): boolean {
  return error instanceof kafkajs.KafkaJSConnectionError;
}

/**
 * The error a caller gets when Kafka could not do `what` for now. `needs` is the permission it takes, for those who set ACLs:
 * "Write on topic x".
 */
export function unavailable(
  connection: KafkaConnection,
  what: string,
  needs: string,
  cause: unknown,
): LogUnavailableError {
  const brokers = connection.brokers.join(", ");
  return new LogUnavailableError(`Kafka at ${brokers} could not ${what}: ${remedyOf(cause, needs)}`, { cause });
}
