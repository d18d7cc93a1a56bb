// What a Kafka cluster says about itself: topics with their settings and groups with their members, for people who look for
// what is wrong. Services ask through the log's port, which has no word for either.
import kafkajs, { type Admin } from "kafkajs";
import { createKafkaClient, type KafkaConnection, unavailable, withTimeout } from "./client.ts";
import { groupName, topicName } from "./names.ts";

export interface TopicPartitionState {
  partition: number;
  /** -1: none. */
  leader: number;
  replicas: number;
  inSync: number;
}

export interface TopicState {
  topic: string;
  partitions: TopicPartitionState[];
  /** Settings as the brokers name them: `retention.ms`. Absent: this kind of broker has no such setting. */
  settings: ReadonlyMap<string, string>;
}

export interface GroupState {
  group: string;
  /** As the coordinator calls it: Stable, PreparingRebalance, Empty, Dead. */
  state: string;
  members: number;
  /** Partitions of the topic that belong to a member. */
  assigned: ReadonlySet<number>;
}

export interface KafkaInspection {
  /** Number of brokers that the cluster knows. */
  brokers(): Promise<number>;
  /** Those of the topics that exist. */
  topics(names: readonly string[]): Promise<TopicState[]>;
  group(group: string, topic: string): Promise<GroupState>;
  close(): void;
}

const REQUEST_TIMEOUT_MS = 5_000;
/** kafkajs has the protocol's number in an enum that is not among its types. */
const RESOURCE_TYPE_TOPIC = 2;

/** Connects at the first call. Methods reject with LogUnavailableError, whose message ends with the remedy. */
export function createKafkaInspection(connection: KafkaConnection, timeoutMs: number): KafkaInspection {
  const client = createKafkaClient(connection, REQUEST_TIMEOUT_MS);
  const admin = client.kafka.admin();
  let connected: Promise<void> | undefined;

  async function ask<T>(what: string, needs: string, work: () => Promise<T>): Promise<T> {
    connected ??= admin.connect();
    const late = () => new Error(`no answer within ${timeoutMs} ms`);
    try {
      return await withTimeout(connected.then(work), timeoutMs, late);
    } catch (error) {
      throw unavailable(connection, what, needs, error);
    }
  }

  return {
    brokers: () =>
      ask("tell its brokers", "Describe on the cluster", async () => (await admin.describeCluster()).brokers.length),
    async topics(names) {
      const own = new Map(names.map((name) => [topicName(connection, name), name]));
      const needs = `Describe and DescribeConfigs on topics ${[...own.keys()].join(", ")}`;
      const states = await ask("tell its topics", needs, () => describeTopics(admin, [...own.keys()]));
      return states.map((state) => ({ ...state, topic: own.get(state.topic) ?? state.topic }));
    },
    async group(group, topic) {
      const name = groupName(connection, group);
      const describe = () => describeGroup(admin, name, topicName(connection, topic));
      return { ...(await ask(`tell the members of ${name}`, `Describe on group ${name}`, describe)), group };
    },
    close: () => client.kill(),
  };
}

/** Those that exist. */
export async function describeTopics(admin: Admin, names: readonly string[]): Promise<TopicState[]> {
  const present = new Set(await admin.listTopics());
  const topics = names.filter((name) => present.has(name));
  if (topics.length === 0) return [];
  const [metadata, configs] = await Promise.all([
    admin.fetchTopicMetadata({ topics }),
    admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map((name) => ({ type: RESOURCE_TYPE_TOPIC, name })),
    }),
  ]);
  return metadata.topics.map(({ name: topic, partitions }) => {
    const entries = configs.resources.find(({ resourceName }) => resourceName === topic)?.configEntries ?? [];
    return {
      topic,
      partitions: partitions
        .map(({ partitionId, leader, replicas, isr }) => {
          return { partition: partitionId, leader, replicas: replicas.length, inSync: isr.length };
        })
        .sort((a, b) => a.partition - b.partition),
      settings: new Map(entries.map(({ configName, configValue }) => [configName, configValue])),
    };
  });
}

async function describeGroup(admin: Admin, group: string, topic: string): Promise<GroupState> {
  const [found] = (await admin.describeGroups([group])).groups;
  const assigned = new Set<number>();
  for (const { memberAssignment } of found?.members ?? []) {
    // Empty while the group rebalances.
    const assignment =
      memberAssignment.length > 0 ? kafkajs.AssignerProtocol.MemberAssignment.decode(memberAssignment) : null;
    for (const partition of assignment?.assignment[topic] ?? []) assigned.add(partition);
  }
  return { group, state: found?.state ?? "Dead", members: found?.members.length ?? 0, assigned };
}
