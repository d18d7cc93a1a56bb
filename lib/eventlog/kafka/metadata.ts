// What a broker says about a topic: its id, and who leads its partitions. A topic that is deleted and made again has the same
// name and offsets, and another id. kafkajs knows no request that has it.
// Format: Kafka protocol guide, "Metadata API", version 10.

import { createRequire } from "node:module";
import type { Broker } from "kafkajs";
import { createFlexibleWriter, FlexibleReader, writeEach, writeTags, writeTopicId } from "./flexible.ts";
import { ask, type BrokerInternals, errorOf, hasVersion } from "./requests.ts";

export interface TopicMetadata {
  /** As Kafka's tools print it; undefined of brokers that give topics none: Kafka before 2.8, and others. */
  id: string | undefined;
  /** `host:port` by node id, of all brokers. */
  addresses: ReadonlyMap<number, string>;
  /** Node id by partition; -1: no leader. */
  leaders: readonly number[];
}

interface Answer {
  brokers: { nodeId: number; host: string; port: number }[];
  topicMetadata: {
    topicErrorCode: number;
    topic: string;
    id?: string | undefined;
    partitionMetadata: { partitionId: number; leader: number }[];
  }[];
}

const API_KEY = 3;
/** The first that has ids. */
const VERSION = 10;
const NO_ID = "AAAAAAAAAAAAAAAAAAAAAA";

const require = createRequire(import.meta.url);
const { requests } = require("kafkajs/src/protocol/requests") as { requests: { Metadata: unknown } };

/** Rejects when the topic as a whole is unknown or refused; a partition may have no leader. */
export async function readTopic(broker: Broker, topic: string): Promise<TopicMetadata> {
  const { brokers, topicMetadata } = await askFor(broker, topic);
  const found = topicMetadata.find((one) => one.topic === topic);
  if (found !== undefined && found.topicErrorCode !== 0) throw errorOf(found.topicErrorCode);
  if (found === undefined || found.partitionMetadata.length === 0)
    throw new Error(`no partitions are known for ${topic}`);
  const leaders = new Array<number>(found.partitionMetadata.length).fill(-1);
  for (const { partitionId, leader } of found.partitionMetadata) leaders[partitionId] = leader;
  const addresses = brokers.map(({ nodeId, host, port }) => [nodeId, addressOf(host, port)] as const);
  return { id: found.id, addresses: new Map(addresses), leaders };
}

function askFor(broker: Broker, topic: string): Promise<Answer> {
  const internals = broker as unknown as BrokerInternals;
  if (!hasVersion(internals, API_KEY, VERSION)) {
    const fields = { topics: [topic], allowAutoTopicCreation: false };
    return ask<Answer>(internals, internals.lookupRequest(API_KEY, requests.Metadata)(fields));
  }
  const encode = async () => {
    const writer = createFlexibleWriter();
    writeEach(writer, [topic], (name) => {
      writeTopicId(writer, NO_ID);
      writeTags(writer.writeUVarIntString(name));
    });
    // Make no topic, and say nothing of what is allowed.
    return writeTags(writer.writeBoolean(false).writeBoolean(false).writeBoolean(false));
  };
  const request = { apiKey: API_KEY, apiVersion: VERSION, apiName: "Metadata", encode };
  return ask<Answer>(internals, { request, response: { decode: async (bytes) => decode(new FlexibleReader(bytes)) } });
}

function decode(reader: FlexibleReader): Answer & { clientSideThrottleTime: number } {
  const clientSideThrottleTime = reader.int32();
  const brokers = reader.each(() => {
    const [nodeId, host, port] = [reader.int32(), reader.text(), reader.int32()];
    reader.text(); // rack
    reader.skipTags();
    return { nodeId, host, port };
  });
  reader.text(); // cluster
  reader.int32(); // controller
  const topicMetadata = reader.each(() => {
    const [topicErrorCode, topic, id] = [reader.int16(), reader.text(), reader.topicId()];
    reader.int8(); // whether it is one of Kafka's own
    const partitionMetadata = reader.each(() => decodePartition(reader));
    reader.int32(); // what is allowed
    reader.skipTags();
    return { topicErrorCode, topic, id: id === NO_ID ? undefined : id, partitionMetadata };
  });
  return { clientSideThrottleTime, brokers, topicMetadata };
}

function decodePartition(reader: FlexibleReader): { partitionId: number; leader: number } {
  reader.int16(); // error: that of having no leader
  const [partitionId, leader] = [reader.int32(), reader.int32()];
  reader.int32(); // leader epoch
  for (let list = 0; list < 3; list++) reader.each(() => reader.int32()); // replicas, in sync, offline
  reader.skipTags();
  return { partitionId, leader };
}

function addressOf(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
