// Requests of which kafkajs's Broker keeps back what the answer says of each partition: it throws the first error, and does
// not say whose.

import { createRequire } from "node:module";
import type { Broker } from "kafkajs";
import { FlexibleReader } from "./flexible.ts";
import { encodeProduceBody, HEAD_ROOM_BYTES, type ProduceRequest } from "./record-batch.ts";

export interface Produced {
  partition: number;
  baseOffset: number;
  /** With the protocol's name as `type`. */
  error: Error | undefined;
}

interface Protocol {
  request: object;
  response: { decode(bytes: Buffer): Promise<unknown> };
  requestTimeout?: number;
}

export interface BrokerInternals {
  /** By API key; undefined before the broker is connected. */
  versions?: Record<number, { maxVersion: number } | undefined> | null;
  lookupRequest(apiKey: number, versions: unknown): (fields: object) => Protocol;
  connectionPool: { send<T>(protocol: object): Promise<T> };
}

interface ProduceAnswer {
  clientSideThrottleTime?: number;
  topics: { partitions: { partition: number; errorCode: number; baseOffset: string }[] }[];
}

const PRODUCE_API_KEY = 0;
/** The first that has ids of topics. */
const PRODUCE_VERSION = 13;

/** Those that kafkajs does not know. */
const TOPIC_ID_ERRORS: Readonly<Record<number, string>> = { 100: "UNKNOWN_TOPIC_ID", 103: "INCONSISTENT_TOPIC_ID" };
const TOPIC_ID_MESSAGE = "The broker has no topic with this id: it was deleted";

const require = createRequire(import.meta.url);
const { requests } = require("kafkajs/src/protocol/requests") as { requests: { Produce: unknown } };
const { createErrorFromCode } = require("kafkajs/src/protocol/error") as { createErrorFromCode(code: number): Error };

/** With acks=all and the body that record-batch.ts encodes. */
export async function produce(broker: Broker, request: ProduceRequest): Promise<Produced[]> {
  const internals = broker as unknown as BrokerInternals;
  const isById = request.topicId !== undefined && hasVersion(internals, PRODUCE_API_KEY, PRODUCE_VERSION);
  const body = await encodeProduceBody(isById ? request : { ...request, topicId: undefined });
  const protocol = isById ? PRODUCE_BY_ID : internals.lookupRequest(PRODUCE_API_KEY, requests.Produce)({ acks: -1 });
  // All that kafkajs takes from an encoder is its bytes; what room there is before them patches.ts asks.
  const encode = async () => ({ buf: body, buffer: body, room: HEAD_ROOM_BYTES });
  const { topics } = await ask<ProduceAnswer>(internals, { ...protocol, request: { ...protocol.request, encode } });
  return topics.flatMap(({ partitions }) =>
    partitions.map(({ partition, errorCode, baseOffset }) => {
      const error = errorCode === 0 ? undefined : errorOf(errorCode);
      return { partition, baseOffset: Number(baseOffset), error };
    }),
  );
}

const PRODUCE_BY_ID: Protocol = {
  request: { apiKey: PRODUCE_API_KEY, apiVersion: PRODUCE_VERSION, apiName: "Produce" },
  response: { decode: async (bytes) => decodeProduced(new FlexibleReader(bytes)) },
};

function decodeProduced(reader: FlexibleReader): ProduceAnswer {
  const topics = reader.each(() => {
    reader.topicId();
    const partitions = reader.each(() => {
      const [partition, errorCode, baseOffset] = [reader.int32(), reader.int16(), reader.int64()];
      reader.int64(); // append time
      reader.int64(); // where the log begins
      reader.each(() => {
        reader.int32(); // a record, and what is wrong with it
        reader.text();
        reader.skipTags();
      });
      reader.text(); // what is wrong with the batch
      reader.skipTags();
      return { partition, errorCode, baseOffset };
    });
    reader.skipTags();
    return { partitions };
  });
  return { topics, clientSideThrottleTime: reader.int32() };
}

/** With the protocol's name as `type`. */
export function errorOf(code: number): Error {
  const error = createErrorFromCode(code);
  const type = TOPIC_ID_ERRORS[code];
  return type === undefined ? error : Object.assign(error, { type, retriable: true, message: TOPIC_ID_MESSAGE });
}

export function hasVersion({ versions }: BrokerInternals, apiKey: number, version: number): boolean {
  return (versions?.[apiKey]?.maxVersion ?? -1) >= version;
}

/** Resolves with the whole answer, whatever errors it has. */
export function ask<T>({ connectionPool }: BrokerInternals, protocol: Protocol): Promise<T> {
  const { response } = protocol;
  return connectionPool.send<T>({ ...protocol, response: { ...response, parse: async (answer: T) => answer } });
}
