// What happens to a cluster of three brokers: deaths, restarts, cuts, moved partitions, new credentials.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect as connectTls } from "node:tls";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { ClusterBroker, TestKafkaCluster } from "../../test/kit/kafka-cluster.ts";
import { askMetadata } from "../../test/kit/kafka-metadata.ts";
import { PARTITIONS } from "../cluster.ts";
import { type Fault, type FaultContext, hold, until } from "./fault.ts";
import { withAdmin } from "./log.ts";

/** Without it there is no group. */
const OFFSETS_TOPIC = "__consumer_offsets";
const AGAIN_MS_MAX = 90_000;
/** An event stored before the second broker died is acknowledged with those of its request that never are. */
const UNDER_WAY_MS = 6_000;
/** Gateways look at a topic again after 30 s. */
const METADATA_MS_MAX = 32_000;

/**
 * A fault that takes a broker away begins when the others have all of its records: what it alone has, nobody can lead while
 * it is away.
 */
export function onceInSync(fault: Fault): Fault {
  return async (context) => {
    await inSync(context);
    return fault(context);
  };
}

export const killLeader: Fault = async (context) => killOne(context, await someLeader(context));

export const killController: Fault = async (context) => {
  const { kafka } = context.cluster;
  const controller = await kafkaOf(context).controller();
  const { proof } = await killOne(context, controller, async () => {
    let next: ClusterBroker | undefined;
    await until(context, "there is another controller", AGAIN_MS_MAX, async () => {
      next = await kafka?.controller();
      return next !== undefined && next.id !== controller.id;
    });
    return `, ${next?.id} is the controller`;
  });
  return { proof };
};

async function killOne(context: FaultContext, broker: ClusterBroker, observe = async () => "") {
  await broker.kill9();
  if (await askMetadata(broker.peerPort)) throw new Error(`broker ${broker.id} answers although it was killed`);
  const seen = await moved(context, broker);
  const more = await observe();
  await hold(context, context.holdMs);
  await broker.restart();
  await inSync(context);
  return { proof: `broker ${broker.id} dead, ${seen}${more}; back and in sync` };
}

export const rollingRestart: Fault = async (context) => {
  for (const broker of kafkaOf(context).brokers) {
    await broker.stop();
    await hold(context, context.holdMs / 3);
    await broker.restart();
    await inSync(context);
  }
  return { proof: "each of three brokers told to stop, started again and in sync" };
};

export const freezeLeader: Fault = async (context) => {
  const broker = await someLeader(context);
  broker.pause();
  let seen: string;
  try {
    if (await askMetadata(broker.peerPort)) throw new Error(`broker ${broker.id} answers although it is frozen`);
    seen = await moved(context, broker);
    await hold(context, context.holdMs);
  } finally {
    broker.resume();
  }
  await inSync(context);
  return { proof: `broker ${broker.id} frozen, ${seen}; in sync again` };
};

/** One replica is alive, and two are to have an event before it is acknowledged. */
export const twoAway: Fault = async (context) => {
  const { load } = context;
  const [, ...away] = context.random.shuffle(kafkaOf(context).brokers);
  await Promise.all(away.map((broker) => broker.kill9()));
  await hold(context, UNDER_WAY_MS);
  const before = load.acked.size;
  await hold(context, context.holdMs);
  const during = load.acked.size - before;
  await Promise.all(away.map((broker) => broker.restart()));
  if (during > 0) throw new Error(`${during} events were acknowledged with two of three brokers dead`);
  await inSync(context);
  return { proof: `brokers ${away.map(({ id }) => id).join(" and ")} dead, nothing acknowledged; back and in sync` };
};

/** Every partition loses a replica and gets it again. */
export const movePartitions: Fault = async (context) => {
  const before = await kafkaOf(context).partitions(EVENTS_TOPIC);
  const assign = (replicasOf: (partition: number) => number[]) => {
    const partitionAssignment = [...before.keys()].map((partition) => ({ partition, replicas: replicasOf(partition) }));
    const topics = [{ topic: EVENTS_TOPIC, partitionAssignment }];
    return withAdmin(context.cluster, async (admin) => void (await admin.alterPartitionReassignments({ topics })));
  };
  // Another leader is preferred than before, so that leadership moves too.
  const three = (partition: number) => [0, 1, 2].map((n) => ((partition + n + context.random.integer(0, 2)) % 3) + 1);
  const orders = new Map(
    [...before.keys()].map((partition) => [partition, [...new Set([...three(partition), 1, 2, 3])]]),
  );
  const orderOf = (partition: number) => orders.get(partition) ?? [1, 2, 3];
  await assign((partition) => orderOf(partition).slice(0, 2));
  await until(context, "two replicas each", AGAIN_MS_MAX, async () =>
    (await syncCounts(context, EVENTS_TOPIC)).every((n) => n === 2),
  );
  await hold(context, context.holdMs);
  await assign(orderOf);
  await inSync(context);
  return { proof: `${before.size} partitions with two replicas, then with three again` };
};

/** Ids that come again while it happens must meet those that were stored before. */
export const addPartition: Fault = async (context) => {
  const kafka = kafkaOf(context);
  const { size } = await kafka.partitions(EVENTS_TOPIC);
  const { load } = context;
  await withAdmin(context.cluster, async (admin) => {
    await admin.createPartitions({ topicPartitions: [{ topic: EVENTS_TOPIC, count: size + 1 }] });
  });
  const isThere = async () => (await kafka.partitions(EVENTS_TOPIC)).size === size + 1;
  await until(context, "the partition is there", AGAIN_MS_MAX, isThere);
  // Gateways look at the topic again by then.
  const before = load.acked.size;
  await hold(context, METADATA_MS_MAX);
  await until(context, "events are acknowledged", AGAIN_MS_MAX, () => load.acked.size > before);
  const bounds = await context.cluster.log.bounds(EVENTS_TOPIC);
  const end = bounds.find(({ partition }) => partition === size)?.end;
  if (end !== 0) throw new Error(`the partition that was added has ${end} records: KAFKA_PARTITIONS is ${PARTITIONS}`);
  return { proof: `${size + 1} partitions instead of ${size}, of which events go to ${PARTITIONS}` };
};

export const replaceCertificate: Fault = async (context) => {
  const broker = context.random.pick(kafkaOf(context).brokers);
  const before = await shownBy(broker);
  await broker.replaceCertificate();
  await until(context, "another certificate is shown", AGAIN_MS_MAX, async () => (await shownBy(broker)) !== before);
  for (const link of broker.clientLinks) link.resetAll();
  await hold(context, context.holdMs);
  return { proof: `broker ${broker.id} shows another certificate; all connections to it were reopened` };
};

/** Gateways log in with a password; who is logged in stays until its connection ends. */
export const rotatePassword: Fault = async (context) => {
  const { gateways, brokerLogin } = context.cluster;
  const kafka = kafkaOf(context);
  await kafka.changePassword(`secret-${randomBytes(6).toString("hex")}`);
  Object.assign(brokerLogin, kafka.env("scram-sha-512"));
  for (const gateway of gateways) {
    await gateway.stop("SIGTERM");
    await gateway.start();
    await hold(context, context.holdMs / gateways.length);
  }
  for (const broker of kafka.brokers) for (const link of broker.clientLinks) link.resetAll();
  return { proof: `${gateways.length} gateways restarted with another password, and all connections reopened` };
};

export const cutClients: Fault = async (context) => {
  const broker = await someLeader(context);
  broker.cutFromClients(true);
  try {
    await hold(context, context.holdMs);
    const { leader } = (await kafkaOf(context).partitions(EVENTS_TOPIC)).values().next().value ?? { leader: -1 };
    if (leader < 0) throw new Error("the brokers themselves have lost each other");
    if (broker.clientLinks.some(({ connections }) => connections > 0)) throw new Error("a client is connected");
  } finally {
    broker.cutFromClients(false);
  }
  return { proof: `no client of broker ${broker.id} for ${(context.holdMs / 1000).toFixed(1)} s, its peers had it` };
};

export const cutPeers: Fault = async (context) => {
  const broker = await someLeader(context);
  broker.cutFromPeers(true);
  let seen: string;
  try {
    seen = await moved(context, broker);
    await hold(context, context.holdMs);
  } finally {
    broker.cutFromPeers(false);
  }
  await inSync(context);
  return { proof: `broker ${broker.id} cut from its peers, ${seen}; in sync again` };
};

function kafkaOf({ cluster: { kafka } }: FaultContext): TestKafkaCluster {
  if (kafka === undefined) throw new Error("this fault is for a run with --brokers 3");
  return kafka;
}

async function someLeader(context: FaultContext): Promise<ClusterBroker> {
  const leaders = [...(await kafkaOf(context).partitions(EVENTS_TOPIC)).values()].map(({ leader }) => leader);
  const id = context.random.pick(leaders);
  const broker = kafkaOf(context).brokers.find((one) => one.id === id);
  if (broker === undefined) throw new Error(`no broker has the id ${id} of a leader`);
  return broker;
}

/** Waits until all partitions of the broker have other leaders, as one of the others sees it. */
async function moved(context: FaultContext, { id }: ClusterBroker): Promise<string> {
  const kafka = kafkaOf(context);
  let count = 0;
  const begun = performance.now();
  await until(context, `no partition is led by broker ${id}`, AGAIN_MS_MAX, async () => {
    const states = [...(await kafka.partitions(EVENTS_TOPIC, id)).values()];
    count = states.filter(({ leader }) => leader >= 0 && leader !== id).length;
    return count === states.length;
  });
  return `${count} partitions led by others after ${((performance.now() - begun) / 1000).toFixed(1)} s`;
}

async function inSync(context: FaultContext): Promise<void> {
  await until(context, "all replicas are in sync", AGAIN_MS_MAX, async () => {
    const counts = await Promise.all([EVENTS_TOPIC, OFFSETS_TOPIC].map((topic) => syncCounts(context, topic)));
    return counts.flat().every((count) => count === 3);
  });
}

async function syncCounts(context: FaultContext, topic: string): Promise<number[]> {
  return [...(await kafkaOf(context).partitions(topic)).values()].map((state) => state.inSync.length);
}

/** Fingerprint of the certificate that the broker shows to its clients. */
async function shownBy({ clientLinks: [link] }: ClusterBroker): Promise<string> {
  const socket = connectTls({ host: "127.0.0.1", port: link?.port ?? 0, rejectUnauthorized: false });
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate().fingerprint256;
  } finally {
    socket.destroy();
  }
}
