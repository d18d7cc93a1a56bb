// Which broker leads which partition, as any broker that answers tells it, and the connections to them.

import type { Broker } from "kafkajs";
import { isTransient, type KafkaConnection } from "./client.ts";
import { readTopic, type TopicMetadata } from "./metadata.ts";
import { type BrokerNode, createBrokerNode, firstAnswer } from "./nodes.ts";

/** A broker that has not answered for so long is not waited for alone. */
const HEDGE_MS = 150;

export interface Routes {
  /** What is known now; `ageMs` since it was learned. */
  of(topic: string): (Pick<TopicMetadata, "id" | "leaders"> & { ageMs: number }) | undefined;
  /** Undefined: nobody leads the partition, or nobody is known to. */
  leader(topic: string, partition: number): BrokerNode | undefined;
  /** Asks for the topic's leaders; calls of one moment share the answer. */
  refresh(topic: string): Promise<void>;
  /** Asks some broker, or the next when that one does not answer. */
  askAny<T>(work: (broker: Broker) => Promise<T>): Promise<T>;
  close(): void;
}

export function createRoutes(connection: KafkaConnection, requestTimeoutMs: number): Routes {
  const nodes = new Map<string, BrokerNode>();
  const known = new Map<string, TopicMetadata & { learnedAt: number }>();
  const refreshing = new Map<string, Promise<void>>();

  function nodeAt(address: string): BrokerNode {
    let node = nodes.get(address);
    if (node === undefined) {
      node = createBrokerNode(connection, address, requestTimeoutMs);
      nodes.set(address, node);
    }
    return node;
  }

  function askAny<T>(work: (broker: Broker) => Promise<T>): Promise<T> {
    const addresses = new Set(connection.brokers);
    for (const { addresses: all } of known.values()) for (const address of all.values()) addresses.add(address);
    const shuffled = [...addresses].map((address) => ({ node: nodeAt(address), order: Math.random() }));
    // Those that answered last first, and among them the one with the least to do.
    const rank = ({ node, order }: { node: BrokerNode; order: number }) =>
      (node.isHealthy ? 0 : 1_000) + node.inFlight + order;
    const tries = shuffled
      .sort((a, b) => rank(a) - rank(b))
      .map(
        ({ node }) =>
          () =>
            node.ask(work),
      );
    return firstAnswer(tries, HEDGE_MS, (error) => !isTransient(error));
  }

  async function learn(topic: string): Promise<void> {
    const found = await askAny((broker) => readTopic(broker, topic));
    known.set(topic, { ...found, learnedAt: performance.now() });
    const current = new Set(connection.brokers);
    for (const { addresses } of known.values()) for (const address of addresses.values()) current.add(address);
    for (const [address, node] of nodes) {
      if (current.has(address) || node.inFlight > 0) continue;
      node.cut();
      nodes.delete(address);
    }
  }

  return {
    of(topic) {
      const found = known.get(topic);
      return found && { id: found.id, leaders: found.leaders, ageMs: performance.now() - found.learnedAt };
    },
    leader(topic, partition) {
      const { leaders, addresses } = known.get(topic) ?? {};
      const address = addresses?.get(leaders?.[partition] ?? -1);
      return address === undefined ? undefined : nodeAt(address);
    },
    refresh(topic) {
      let running = refreshing.get(topic);
      if (running === undefined) {
        running = learn(topic).finally(() => refreshing.delete(topic));
        refreshing.set(topic, running);
      }
      return running;
    },
    askAny,
    close() {
      for (const node of nodes.values()) node.cut();
      nodes.clear();
    },
  };
}
