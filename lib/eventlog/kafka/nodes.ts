// The brokers that a producer talks to, each over a connection of its own: what becomes of one is no business of the others,
// and one that hangs can be cut off by itself.

import type { Broker, Cluster } from "kafkajs";
import { createKafkaClient, type KafkaClient, type KafkaConnection, openCluster, withTimeout } from "./client.ts";
import { protocolErrorOf } from "./refusals.ts";

export interface BrokerNode {
  readonly address: string;
  /** Requests that have no answer yet. */
  readonly inFlight: number;
  /** The last request was answered. */
  readonly isHealthy: boolean;
  /** Connects if need be. Rejects when there is no answer in time, and then the next request gets a new connection. */
  ask<T>(work: (broker: Broker) => Promise<T>): Promise<T>;
  /** Whatever waits for an answer rejects now. */
  cut(): void;
}

export function createBrokerNode(connection: KafkaConnection, address: string, requestTimeoutMs: number): BrokerNode {
  let current: { client: KafkaClient; cluster: Cluster } | undefined;
  let inFlight = 0;
  let isHealthy = true;

  function open(): { client: KafkaClient; cluster: Cluster } {
    const client = createKafkaClient({ ...connection, brokers: [address] }, requestTimeoutMs, { retries: 0 });
    return { client, cluster: openCluster(client) };
  }

  function cut(): void {
    current?.client.kill();
    current = undefined;
  }

  return {
    address,
    get inFlight() {
      return inFlight;
    },
    get isHealthy() {
      return isHealthy;
    },
    async ask(work) {
      current ??= open();
      const mine = current;
      const late = () => new Error(`no answer from ${address} in time`);
      inFlight += 1;
      try {
        const answer = await withTimeout(brokerOf(mine.cluster).then(work), requestTimeoutMs + 1_000, late);
        isHealthy = true;
        return answer;
      } catch (error) {
        // A refusal came over a connection that works. Otherwise kafkajs's own way back from a broker's death can hang.
        isHealthy = protocolErrorOf(error) !== undefined;
        if (!isHealthy && current === mine) cut();
        throw error;
      } finally {
        inFlight -= 1;
      }
    },
    cut,
  };
}

async function brokerOf(cluster: Cluster): Promise<Broker> {
  await cluster.connect(); // Returns at once when connected.
  // The one address that the cluster was given; kafkajs's types do not know of it.
  const { seedBroker } = (cluster as unknown as { brokerPool: { seedBroker?: Broker } }).brokerPool;
  if (seedBroker === undefined) throw new Error("kafkajs is connected and has no broker");
  return seedBroker;
}

/**
 * The first answer: each of `tries` begins when the one before has failed, or has not answered for `patienceMs`. Rejects with
 * the failure that `isTelling`, or else the first, when all have failed.
 */
export function firstAnswer<T>(
  tries: readonly (() => Promise<T>)[],
  patienceMs: number,
  isTelling: (error: unknown) => boolean,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const failures: unknown[] = [];
    let next = 0;
    let timer: NodeJS.Timeout | undefined;
    function begin(): void {
      clearTimeout(timer);
      const one = tries[next++];
      if (one === undefined) return;
      if (next < tries.length) timer = setTimeout(begin, patienceMs);
      one().then(
        (answer) => {
          clearTimeout(timer);
          next = tries.length;
          resolve(answer);
        },
        (error: unknown) => {
          failures.push(error);
          if (failures.length === tries.length) reject(failures.find(isTelling) ?? failures[0]);
          else begin();
        },
      );
    }
    if (tries.length === 0) reject(new Error("no broker is known"));
    begin();
  });
}
