// One fetch from one broker. Where brokers know topics by their ids, it names the log it wants and gets no record of another
// one that has come in its place; kafkajs can only ask by name.
// Format: Kafka protocol guide, "Fetch API", version 13.

import { createRequire } from "node:module";
import type { Broker } from "kafkajs";
import { createFlexibleWriter, FlexibleReader, writeEach, writeTags, writeTopicId } from "./flexible.ts";
import type { FetchedPartition, Inbox } from "./inbox.ts";
import { readFetchedBatches } from "./patches.ts";
import { ask, type BrokerInternals, errorOf, hasVersion } from "./requests.ts";

export interface FetchedTopic {
  topicName: string;
  partitions: FetchedPartition[];
}

type Wanted = Pick<Inbox, "topic" | "partition" | "next">;
type AnsweredPartition = Omit<FetchedPartition, "messages"> & { errorCode: number; records: Buffer };

interface Answer {
  clientSideThrottleTime: number;
  errorCode: number;
  topics: { id: string; partitions: AnsweredPartition[] }[];
}

const API_KEY = 1;
/** The first that has ids. */
const VERSION = 13;
const READ_COMMITTED = 1;
/** How long a broker may hold a fetch open for a first record. A partition that joins in waits that long at most. */
const WAIT_MS = 250;
/** And how much longer it may take; as kafkajs has it. */
const DELAY_MS = 100;
const PARTITION_BYTES_MAX = 4 * 1024 * 1024;
const BYTES_MAX = 32 * 1024 * 1024;
/** What only replicas say. */
const NOT_SAID = -1;

const require = createRequire(import.meta.url);
const { KafkaJSOffsetOutOfRange } = require("kafkajs/src/errors") as {
  KafkaJSOffsetOutOfRange: new (error: Error, where: { topic: string; partition: number }) => Error;
};

/** `ids` by topic; of one without an id it is its name that counts. Rejects with the first partition's error. */
export async function fetchFromBroker(
  broker: Broker,
  wanted: readonly Wanted[],
  ids: ReadonlyMap<string, string | undefined>,
  rack = "",
): Promise<FetchedTopic[]> {
  const internals = broker as unknown as BrokerInternals;
  const names = new Map<string, string>();
  for (const { topic } of wanted) names.set(ids.get(topic) ?? "", topic);
  if (names.has("") || !hasVersion(internals, API_KEY, VERSION)) return fetchByName(broker, wanted, rack);
  const encode = async () => encodeBody(shuffled([...names]), wanted, rack);
  const answer = await ask<Answer>(internals, {
    request: { apiKey: API_KEY, apiVersion: VERSION, apiName: "Fetch", encode },
    response: { decode: async (bytes) => decode(new FlexibleReader(bytes)) },
    requestTimeout: WAIT_MS + DELAY_MS,
  });
  if (answer.errorCode !== 0) throw errorOf(answer.errorCode);
  const topics: FetchedTopic[] = [];
  for (const { id, partitions } of answer.topics) {
    const topicName = names.get(id) ?? "";
    for (const { errorCode, partition } of partitions)
      if (errorCode !== 0) throw faultOf(errorCode, topicName, partition);
    const read = partitions.map(async ({ records, ...rest }) => ({
      ...rest,
      messages: await readFetchedBatches(records),
    }));
    topics.push({ topicName, partitions: await Promise.all(read) });
  }
  return topics;
}

async function fetchByName(broker: Broker, wanted: readonly Wanted[], rackId: string): Promise<FetchedTopic[]> {
  const { responses } = await broker.fetch({
    rackId,
    // Up to the first transaction that is open, as the bounds are told.
    isolationLevel: READ_COMMITTED,
    maxWaitTime: WAIT_MS,
    minBytes: 1,
    maxBytes: BYTES_MAX,
    topics: wanted.map(({ topic, partition, next }) => ({
      topic,
      partitions: [{ partition, fetchOffset: String(next), maxBytes: PARTITION_BYTES_MAX }],
    })),
  });
  // patches.ts has replaced what reads them.
  return responses as unknown as FetchedTopic[];
}

function encodeBody(
  topics: readonly (readonly [id: string, topic: string])[],
  wanted: readonly Wanted[],
  rack: string,
) {
  const writer = createFlexibleWriter();
  writer.writeInt32(NOT_SAID).writeInt32(WAIT_MS).writeInt32(1).writeInt32(BYTES_MAX).writeInt8(READ_COMMITTED);
  writer.writeInt32(0).writeInt32(NOT_SAID); // no session
  writeEach(writer, topics, ([id, topic]) => {
    writeTopicId(writer, id);
    const own = shuffled(wanted.filter((one) => one.topic === topic));
    writeEach(writer, own, ({ partition, next }) => {
      writer.writeInt32(partition).writeInt32(NOT_SAID).writeInt64(String(next));
      writeTags(writer.writeInt32(NOT_SAID).writeInt64(String(NOT_SAID)).writeInt32(PARTITION_BYTES_MAX));
    });
    writeTags(writer);
  });
  writeEach(writer, [], () => undefined); // forgotten in the session
  return writeTags(writer.writeUVarIntString(rack));
}

function decode(reader: FlexibleReader): Answer {
  const clientSideThrottleTime = reader.int32();
  const errorCode = reader.int16();
  reader.int32(); // session
  const topics = reader.each(() => {
    const id = reader.topicId();
    const partitions = reader.each(() => decodePartition(reader));
    reader.skipTags();
    return { id, partitions };
  });
  return { clientSideThrottleTime, errorCode, topics };
}

function decodePartition(reader: FlexibleReader): AnsweredPartition {
  const [partition, errorCode] = [reader.int32(), reader.int16()];
  const [highWatermark, lastStableOffset] = [reader.int64(), reader.int64()];
  reader.int64(); // where the log begins
  const abortedTransactions = reader.each(() => {
    const [producerId, firstOffset] = [reader.int64(), reader.int64()];
    reader.skipTags();
    return { producerId, firstOffset };
  });
  const [preferredReadReplica, records] = [reader.int32(), reader.bytes()];
  reader.skipTags();
  return {
    ...{ partition, errorCode, highWatermark, lastStableOffset, abortedTransactions, preferredReadReplica, records },
  };
}

function faultOf(code: number, topic: string, partition: number): Error {
  const error = errorOf(code);
  const isOutOfRange = "type" in error && error.type === "OFFSET_OUT_OF_RANGE";
  return isOutOfRange ? new KafkaJSOffsetOutOfRange(error, { topic, partition }) : error;
}

/** A broker fills its answer in the order it was asked. */
function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, order: Math.random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item);
}
