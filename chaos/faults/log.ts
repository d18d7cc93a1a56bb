// The log forgets: the group's commits, or everything.
import kafkajs from "kafkajs";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { type Cluster, PARTITIONS } from "../cluster.ts";
import { drained } from "../watch.ts";
import { type Fault, hold, logged, until } from "./fault.ts";

const EMPTY_MS_MAX = 20_000;
const EPOCH_MS_MAX = 60_000;
const REFILL_MS_MAX = 120_000;
const NEW_EPOCH = "the topic was deleted and made again, and has a new epoch";
/** The topic is refilled this many times faster than it was filled, within reason. */
const REFILL_FACTOR = 10;
const REFILL_PER_SECOND_MAX = 4_000;
/** A request whose caller has given up may still be with a gateway. */
const QUIET_MS = 3_000;

/** As after a week without consumers. */
export const expireOffsets: Fault = async (context) => {
  const { cluster } = context;
  await stopConsumers(cluster);
  const before = await cluster.log.committed(EVENTS_TOPIC, CONSUMER_GROUP);
  await withAdmin(cluster, async (admin) => {
    // Refused as long as a member is counted, which one that left without a goodbye is until its session expires.
    const gone = async () => {
      await admin.deleteGroups([CONSUMER_GROUP]);
      return true;
    };
    await until(context, "the group can be deleted", EMPTY_MS_MAX, () => gone().catch(() => false));
  });
  const after = await cluster.log.committed(EVENTS_TOPIC, CONSUMER_GROUP);
  if (before.size === 0 || after.size > 0) throw new Error(`${before.size} commits before and ${after.size} after`);
  await hold(context, context.holdMs);
  await startConsumers(cluster);
  return { proof: `commits of ${before.size} partitions before, of ${after.size} after` };
};

/** As by accident, under running gateways and consumers: the new topic is another log, and stored from its first record on. */
export const wipeTopic: Fault = async (context) => {
  const { cluster, load, eventsPerSecond } = context;
  const { log } = cluster;
  await load.pause();
  load.forgetRepeats();
  await hold(context, QUIET_MS);
  await drained(cluster, context.signal);
  const ends = new Map((await log.bounds(EVENTS_TOPIC)).map(({ partition, end }) => [partition, end]));
  const before = newEpochs(cluster).length;
  await withAdmin(cluster, async (admin) => {
    await admin.deleteTopics({ topics: [EVENTS_TOPIC] });
    // Refused as long as the deletion is under way, and again when an answer was lost.
    await until(context, "the topic is made again", EMPTY_MS_MAX, async () => {
      return (await createTopic(admin).catch(() => false)) || (await isEmpty(cluster));
    });
  });

  load.resume(Math.max(eventsPerSecond, Math.min(eventsPerSecond * REFILL_FACTOR, REFILL_PER_SECOND_MAX)));
  await until(context, "the topic has grown past its old end", REFILL_MS_MAX, async () => {
    const bounds = await log.bounds(EVENTS_TOPIC).catch(() => []);
    return bounds.length === PARTITIONS && bounds.every(({ partition, end }) => end > (ends.get(partition) ?? 0));
  });
  load.resume(eventsPerSecond);
  await until(context, "a consumer names the new epoch", EPOCH_MS_MAX, () => newEpochs(cluster).length > before);
  const old = [...ends.values()].reduce((sum, end) => sum + end, 0);
  return { proof: `${old} records wiped and more appended; stored under epoch ${newEpochs(cluster).at(-1)}` };
};

async function isEmpty({ log }: Cluster): Promise<boolean> {
  const bounds = await log.bounds(EVENTS_TOPIC).catch(() => []);
  return bounds.length === PARTITIONS && bounds.every(({ end }) => end === 0);
}

function newEpochs({ consumers }: Cluster): unknown[] {
  return consumers.flatMap(({ process }) => logged(process, NEW_EPOCH).map(({ epoch }) => epoch));
}

async function stopConsumers({ consumers }: Cluster): Promise<void> {
  const codes = await Promise.all(consumers.map((consumer) => consumer.stop("SIGTERM")));
  if (codes.some((code) => code !== 0)) throw new Error(`told to stop, consumers ended with ${codes.join(", ")}`);
}

async function startConsumers({ consumers }: Cluster): Promise<void> {
  await Promise.all(consumers.map((consumer) => consumer.start()));
}

/** As somebody would who puts right what they have done, and not with `millrace migrate`, which would see what it was. */
async function createTopic(admin: kafkajs.Admin): Promise<boolean> {
  const configEntries = [{ name: "message.timestamp.type", value: "LogAppendTime" }];
  return admin.createTopics({
    topics: [{ topic: EVENTS_TOPIC, numPartitions: PARTITIONS, replicationFactor: 1, configEntries }],
  });
}

/** `work` with an admin client, past the proxies if there are three brokers. */
export async function withAdmin(cluster: Cluster, work: (admin: kafkajs.Admin) => Promise<void>): Promise<void> {
  const admin = new kafkajs.Kafka({
    brokers: cluster.kafkaAddress.split(","),
    logLevel: kafkajs.logLevel.NOTHING,
  }).admin();
  await admin.connect();
  try {
    await work(admin);
  } finally {
    await admin.disconnect();
  }
}
