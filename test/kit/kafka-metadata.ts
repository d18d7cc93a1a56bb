// What a Kafka broker says of itself and its cluster, in the bytes of the protocol: its port is open long before it answers,
// and kafkajs says nothing of a topic of which one partition has no leader.

import { connect } from "node:net";
import { patience } from "./patience.ts";

const READY_TIMEOUT_MS = patience(60_000);
const ANSWER_MS_MAX = 2_000;

export interface PartitionState {
  /** Node id; -1: none. */
  leader: number;
  inSync: number[];
}

/** Resolves when the broker names itself in a metadata answer; rejects when it has exited, or not answered in a minute. */
export async function answersMetadata(port: number, exited: Promise<void>): Promise<void> {
  let gone = false;
  void exited.then(() => {
    gone = true;
  });
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!gone && performance.now() < deadline) {
    if (await askMetadata(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(gone ? "the Kafka broker ended while starting" : `no Kafka metadata after ${READY_TIMEOUT_MS} ms`);
}

/** Whether a broker behind this port of 127.0.0.1 answers a metadata request within two seconds. */
export async function askMetadata(port: number): Promise<boolean> {
  return (await countBrokers(port)) > 0;
}

/** How many brokers the one behind this port of 127.0.0.1 names within two seconds. */
export async function countBrokers(port: number): Promise<number> {
  // Metadata request, version 1, for no topics: key 3, version 1, correlation 1, null client id, empty array.
  const answer = await ask(port, Buffer.from("0003000100000001ffff00000000", "hex"));
  return answer?.readInt32BE(4) ?? 0;
}

/** By partition, as the broker behind this port sees them; undefined: no answer. */
export async function partitionStates(port: number, topic: string): Promise<Map<number, PartitionState> | undefined> {
  const name = Buffer.from(topic);
  const length = Buffer.alloc(2);
  length.writeInt16BE(name.length);
  const answer = await ask(port, Buffer.concat([Buffer.from("0003000100000001ffff00000001", "hex"), length, name]));
  return answer && readPartitions(answer);
}

/** Node id of the active controller, as the broker behind this port sees it; undefined: no answer, or none. */
export async function activeController(port: number): Promise<number | undefined> {
  // DescribeQuorum, version 0, of __cluster_metadata[0].
  const topic = Buffer.from("__cluster_metadata");
  const head = Buffer.from("0037000000000001ffff0002", "hex");
  const request = Buffer.concat([head, Buffer.from([topic.length + 1]), topic, Buffer.from("0200000000000000", "hex")]);
  const answer = await ask(port, request);
  // Correlation, tags, error, one topic with its name, one partition with its number and error.
  const at = 4 + 1 + 2 + 1 + 1 + topic.length + 1 + 4;
  if (answer === undefined || answer.length < at + 6 || answer.readInt16BE(at) !== 0) return undefined;
  const leader = answer.readInt32BE(at + 2);
  return leader < 0 ? undefined : leader;
}

function readPartitions(answer: Buffer): Map<number, PartitionState> {
  let at = 4;
  const move = (bytes: number) => {
    at += bytes;
    return at - bytes;
  };
  const int32 = () => answer.readInt32BE(move(4));
  const int16 = () => answer.readInt16BE(move(2));
  const skipText = () => void move(Math.max(0, int16()));
  for (let brokers = int32(); brokers > 0; brokers--) {
    int32();
    skipText();
    int32();
    skipText();
  }
  int32(); // the controller, which brokers without ZooKeeper make up
  const found = new Map<number, PartitionState>();
  for (let topics = int32(); topics > 0; topics--) {
    int16();
    skipText();
    move(1);
    for (let partitions = int32(); partitions > 0; partitions--) {
      int16();
      const [partition, leader] = [int32(), int32()];
      for (let replicas = int32(); replicas > 0; replicas--) int32();
      found.set(partition, { leader, inSync: Array.from({ length: int32() }, int32) });
    }
  }
  return found;
}

/** What follows the length of the answer, if there is one in time. */
function ask(port: number, request: Buffer): Promise<Buffer | undefined> {
  const length = Buffer.alloc(4);
  length.writeInt32BE(request.length);
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(Buffer.concat([length, request])));
    const done = (answer: Buffer | undefined) => {
      socket.destroy();
      resolve(answer);
    };
    let seen: Buffer = Buffer.alloc(0);
    socket.setTimeout(ANSWER_MS_MAX, () => done(undefined));
    socket.on("error", () => done(undefined)); // Not up yet: the caller asks again.
    socket.on("end", () => done(undefined));
    socket.on("data", (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
      if (seen.length >= 4 && seen.length >= 4 + seen.readInt32BE(0)) done(seen.subarray(4));
    });
  });
}
