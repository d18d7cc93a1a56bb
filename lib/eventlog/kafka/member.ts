// A member of a consumer group: what makes kafkajs keep a membership and no more, and how it ends for good.

import kafkajs from "kafkajs";
import type { ConsumeOptions } from "../log.ts";
import { createKafkaClient, type KafkaClient, type KafkaConnection, openCluster, withTimeout } from "./client.ts";
import { leaveGroup, type MemberIdentity } from "./patches.ts";

/** How long the other members wait for one that is draining. */
const REBALANCE_TIMEOUT_MS = 15_000;
const GOODBYE_MS = 3_000;

/** Connects nothing yet. */
export function createMember(
  client: KafkaClient,
  identity: MemberIdentity,
  groupId: string,
  sessionTimeout: number,
): { consumer: kafkajs.Consumer; cluster: kafkajs.Cluster } {
  let cluster: kafkajs.Cluster | undefined;
  const consumer = client.kafka.consumer({
    groupId,
    sessionTimeout,
    rebalanceTimeout: Math.max(REBALANCE_TIMEOUT_MS, 2 * sessionTimeout),
    heartbeatInterval: Math.min(Math.floor(sessionTimeout / 8), 500), // A rebalance lasts until all have heard of it.
    maxWaitTimeInMs: 250, // Everything is paused, so this is merely the pace of kafkajs's idle loop.
    metadataMaxAge: 30_000,
    allowAutoTopicCreation: false,
    readUncommitted: true,
    // Restarting is consumeGroup's, which also makes new connections.
    retry: { retries: 4, initialRetryTime: 100, maxRetryTime: 1_000, restartOnFailure: async () => false },
    partitionAssigners: [
      (context) => {
        cluster = context.cluster;
        const assigner = kafkajs.PartitionAssigners.roundRobin(context);
        return { ...assigner, protocol: ({ topics }) => subscription(assigner, identity, topics) };
      },
    ],
  });
  if (cluster === undefined) throw new Error("kafkajs made a consumer without asking for its assigner");
  return { consumer, cluster };
}

/**
 * To a member that joins again unchanged the coordinator may answer with the generation it has. That is welcome as long
 * as the answer to a join was lost, and must not happen after one that was used: hence the count of those.
 */
function subscription(
  { name, version }: kafkajs.Assigner,
  { joins }: MemberIdentity,
  topics: string[],
): kafkajs.GroupState {
  const { MemberMetadata } = kafkajs.AssignerProtocol;
  return { name, metadata: MemberMetadata.encode({ version, topics, userData: Buffer.from(String(joins)) }) };
}

/**
 * Leaves the group, so that nobody waits for the session to expire. Over a connection of its own: that of the last
 * session may be why it ended. Never rejects, and takes three seconds at most.
 */
export async function sayGoodbye(
  { memberId }: MemberIdentity,
  connection: KafkaConnection,
  { topic, group }: ConsumeOptions,
): Promise<void> {
  if (memberId === undefined) return;
  const client = createKafkaClient(connection, GOODBYE_MS);
  const leave = async () => {
    const cluster = openCluster(client);
    await cluster.connect();
    await cluster.addTargetTopic(topic);
    await leaveGroup(await cluster.findGroupCoordinator({ groupId: group }), group, memberId);
  };
  try {
    await withTimeout(leave(), GOODBYE_MS, () => new Error(`no answer within ${GOODBYE_MS} ms`));
  } catch (err) {
    connection.logger.debug({ topic, group, err }, "left the group without a goodbye; its session will expire");
  }
  client.kill();
}
