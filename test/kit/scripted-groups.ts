// The consumer groups of the scripted log. A rebalance is eager, as kafkajs does it: everything is revoked, then dealt.

import { type Assignment, AssignmentLostError, type ConsumeOptions } from "#lib/eventlog/log.ts";

export interface Member {
  /** Number of its `consume` call, from 0. */
  readonly number: number;
  readonly options: ConsumeOptions;
  /** Killed: it sees nothing any more, and nothing it does counts. */
  dead: boolean;
}

export interface ScriptedGroups {
  join(options: ConsumeOptions): Promise<void>;
  /** Takes the partition from its owners and waits for their handlers; nobody has it until assign or rebalance. */
  revoke(partition: number): Promise<void>;
  /** Moves the partition to this consumer, waiting for the handler of the one that had it. */
  assign(partition: number, consumer: number): Promise<void>;
  /** Revokes everything and deals it anew, each partition to the next consumer in turn. */
  rebalance(): Promise<void>;
  /** As kill -9: its assignments are not told, its calls never settle; the others get its partitions. */
  killConsumer(consumer: number): Promise<void>;
  /**
   * As a session timeout of a process that was frozen: its assignments are lost, nobody waits for its handlers, the
   * partitions are dealt among all, itself included, while its old handlers may still be at work.
   */
  expelConsumer(consumer: number): Promise<void>;
  /** Partition to consumer, over all groups of a topic. */
  owners(topic: string): Map<number, number>;
  close(): Promise<void>;
}

interface Group {
  members: Participant[];
  held: Map<number, Held>;
  /** Rebalances so far: where dealing starts. */
  generation: number;
  /** Changes happen one after another. */
  change: Promise<void>;
}

interface Participant extends Member {
  left: PromiseWithResolvers<void>;
}

interface Held {
  member: Participant;
  lost: AbortController;
  handler: Promise<void>;
}

export function createScriptedGroups(
  partitions: number,
  makeAssignment: (member: Member, partition: number, lost: AbortSignal) => Assignment,
): ScriptedGroups {
  const groups = new Map<string, Group>();
  let members = 0;

  function groupOf({ topic, group }: ConsumeOptions): Group {
    const name = JSON.stringify([topic, group]);
    const known = groups.get(name) ?? { members: [], held: new Map(), generation: 0, change: Promise.resolve() };
    groups.set(name, known);
    return known;
  }

  function memberOf(consumer: number): { group: Group; member: Participant } {
    for (const group of groups.values()) {
      const member = group.members.find(({ number }) => number === consumer);
      if (member) return { group, member };
    }
    throw new Error(`consumer ${consumer} is in no group`);
  }

  function inTurn(group: Group, act: () => Promise<void>): Promise<void> {
    group.change = group.change.then(act);
    return group.change;
  }

  async function release(group: Group, partition: number): Promise<void> {
    const held = group.held.get(partition);
    if (!held) return;
    held.lost.abort();
    await held.handler;
    group.held.delete(partition);
  }

  function hand(group: Group, partition: number, member: Participant): void {
    const lost = new AbortController();
    const run = async () => {
      try {
        await member.options.onAssigned(makeAssignment(member, partition, lost.signal));
      } catch (error) {
        if (!(error instanceof AssignmentLostError) && !member.dead) void leave(group, member, error);
      }
    };
    group.held.set(partition, { member, lost, handler: Promise.resolve().then(run) });
  }

  function deal(group: Group): Promise<void> {
    for (const { lost } of group.held.values()) lost.abort();
    return inTurn(group, async () => {
      await Promise.all([...group.held.keys()].map((partition) => release(group, partition)));
      const { length } = group.members;
      for (let partition = 0; partition < partitions; partition++) {
        const member = group.members[(partition + group.generation) % length];
        if (member) hand(group, partition, member);
      }
      group.generation++;
    });
  }

  async function leave(group: Group, member: Participant, error?: unknown): Promise<void> {
    if (!group.members.includes(member)) return;
    group.members = group.members.filter((other) => other !== member);
    await deal(group);
    if (error === undefined) member.left.resolve();
    else member.left.reject(error);
  }

  /** Its partitions are free at once, whatever its handlers are doing. */
  function forget(group: Group, member: Participant): void {
    for (const [partition, held] of group.held) if (held.member === member) group.held.delete(partition);
  }

  return {
    async join(options) {
      if (options.signal.aborted) return;
      const group = groupOf(options);
      const member: Participant = { number: members++, options, dead: false, left: Promise.withResolvers() };
      const onAbort = () => void leave(group, member);
      options.signal.addEventListener("abort", onAbort, { once: true });
      group.members.push(member);
      void deal(group);
      try {
        await member.left.promise;
      } finally {
        options.signal.removeEventListener("abort", onAbort);
      }
    },
    async revoke(partition) {
      const all = [...groups.values()];
      for (const group of all) group.held.get(partition)?.lost.abort();
      await Promise.all(all.map((group) => inTurn(group, () => release(group, partition))));
    },
    async assign(partition, consumer) {
      const { group, member } = memberOf(consumer);
      group.held.get(partition)?.lost.abort();
      await inTurn(group, async () => {
        await release(group, partition);
        if (group.members.includes(member)) hand(group, partition, member);
      });
    },
    async rebalance() {
      await Promise.all([...groups.values()].map(deal));
    },
    async killConsumer(consumer) {
      const { group, member } = memberOf(consumer);
      member.dead = true;
      group.members = group.members.filter((other) => other !== member);
      forget(group, member);
      await deal(group);
    },
    async expelConsumer(consumer) {
      const { group, member } = memberOf(consumer);
      for (const held of group.held.values()) if (held.member === member) held.lost.abort();
      forget(group, member);
      await deal(group);
    },
    owners(topic) {
      const held = [...groups.values()].flatMap((group) => [...group.held]);
      const ofTopic = held.filter(([, { member, lost }]) => member.options.topic === topic && !lost.signal.aborted);
      return new Map(ofTopic.map(([partition, { member }]) => [partition, member.number]));
    },
    async close() {
      const leaving = [...groups.values()].flatMap((group) => group.members.map((member) => leave(group, member)));
      await Promise.all(leaving);
    },
  };
}
