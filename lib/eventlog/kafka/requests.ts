// Requests of which kafkajs's Broker keeps back what the answer says of each partition: it throws the first error, and does
// not say whose.

import { createRequire } from "node:module";
import type { Broker } from "kafkajs";
import { encodeProduceBody, HEAD_ROOM_BYTES, type ProduceRequest } from "./record-batch.ts";

export interface Produced {
  partition: number;
  baseOffset: number;
  /** With the protocol's name as `type`. */
  error: Error | undefined;
}

export interface TopicLeaders {
  /** `host:port` by node id, of all brokers. */
  addresses: ReadonlyMap<number, string>;
  /** Node id by partition; -1: no leader. */
  leaders: readonly number[];
}

interface Protocol {
  request: object;
  response: { decode(bytes: Buffer): Promise<unknown> };
}

export interface BrokerInternals {
  lookupRequest(apiKey: number, versions: unknown): (fields: object) => Protocol;
  connectionPool: { send<T>(protocol: object): Promise<T> };
}

interface ProduceAnswer {
  topics: { partitions: { partition: number; errorCode: number; baseOffset: string }[] }[];
}

interface MetadataAnswer {
  brokers: { nodeId: number; host: string; port: number }[];
  topicMetadata: {
    topicErrorCode: number;
    topic: string;
    partitionMetadata: { partitionId: number; leader: number }[];
  }[];
}

const PRODUCE_API_KEY = 0;
const METADATA_API_KEY = 3;

const require = createRequire(import.meta.url);
const { requests } = require("kafkajs/src/protocol/requests") as { requests: { Produce: unknown; Metadata: unknown } };
const { createErrorFromCode } = require("kafkajs/src/protocol/error") as { createErrorFromCode(code: number): Error };

/** With acks=all and the body that record-batch.ts encodes. */
export async function produce(broker: Broker, request: ProduceRequest): Promise<Produced[]> {
  const body = await encodeProduceBody(request);
  const internals = broker as unknown as BrokerInternals;
  const protocol = internals.lookupRequest(PRODUCE_API_KEY, requests.Produce)({ acks: -1 });
  // All that kafkajs takes from an encoder is its bytes; what room there is before them patches.ts asks.
  const encode = async () => ({ buf: body, buffer: body, room: HEAD_ROOM_BYTES });
  const { topics } = await ask<ProduceAnswer>(internals, { ...protocol, request: { ...protocol.request, encode } });
  return topics.flatMap(({ partitions }) =>
    partitions.map(({ partition, errorCode, baseOffset }) => {
      const error = errorCode === 0 ? undefined : createErrorFromCode(errorCode);
      return { partition, baseOffset: Number(baseOffset), error };
    }),
  );
}

/** Rejects when the topic as a whole is unknown or refused; a partition may have no leader. */
export async function readLeaders(broker: Broker, topic: string): Promise<TopicLeaders> {
  const internals = broker as unknown as BrokerInternals;
  const fields = { topics: [topic], allowAutoTopicCreation: false };
  const protocol = internals.lookupRequest(METADATA_API_KEY, requests.Metadata)(fields);
  const { brokers, topicMetadata } = await ask<MetadataAnswer>(internals, protocol);
  const found = topicMetadata.find((one) => one.topic === topic);
  if (found !== undefined && found.topicErrorCode !== 0) throw createErrorFromCode(found.topicErrorCode);
  if (found === undefined || found.partitionMetadata.length === 0)
    throw new Error(`no partitions are known for ${topic}`);
  const leaders = new Array<number>(found.partitionMetadata.length).fill(-1);
  for (const { partitionId, leader } of found.partitionMetadata) leaders[partitionId] = leader;
  const addresses = brokers.map(({ nodeId, host, port }) => [nodeId, addressOf(host, port)] as const);
  return { addresses: new Map(addresses), leaders };
}

function ask<T>({ connectionPool }: BrokerInternals, protocol: Protocol): Promise<T> {
  const { response } = protocol;
  return connectionPool.send<T>({ ...protocol, response: { ...response, parse: async (answer: T) => answer } });
}

function addressOf(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
