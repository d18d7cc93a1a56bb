// Consumer groups of a log that lives in one process: the newest member of a group has the partition, and its
// predecessor gets it back when that member leaves.

import { type Assignment, AssignmentLostError, type ConsumeOptions } from "../log.ts";

export interface Groups {
  /** As EventLog.consume. */
  join(options: ConsumeOptions): Promise<void>;
  /** Ends every assignment; each `join` resolves. */
  close(): Promise<void>;
}

interface Member {
  options: ConsumeOptions;
  left: PromiseWithResolvers<void>;
}

interface Group {
  members: Member[];
  owner: { member: Member; lost: AbortController; handler: Promise<void> } | undefined;
  /** Changes of ownership happen one after another. */
  change: Promise<void>;
}

/** What a member may take to end its work after losing the partition. Its commits are refused from the start. */
const RELEASE_MS_MAX = 10_000;

export function createGroups(
  makeAssignment: (topic: string, group: string, lost: AbortSignal) => Assignment,
  warn: (fields: object, message: string) => void,
): Groups {
  const groups = new Map<string, Group>();

  function groupOf({ topic, group }: ConsumeOptions): Group {
    const name = JSON.stringify([topic, group]);
    const known = groups.get(name) ?? { members: [], owner: undefined, change: Promise.resolve() };
    groups.set(name, known);
    return known;
  }

  function settle(group: Group): Promise<void> {
    group.change = group.change.then(() => handOver(group));
    return group.change;
  }

  async function handOver(group: Group): Promise<void> {
    const next = group.members.at(-1);
    if (group.owner?.member === next) return;
    if (group.owner) {
      const { lost, handler, member } = group.owner;
      lost.abort();
      if (!(await endsWithin(handler, RELEASE_MS_MAX))) {
        const { topic, group: name } = member.options;
        warn({ topic, group: name }, "a consumer did not end its work in time after losing its partition");
      }
      group.owner = undefined;
    }
    // Members may have changed during the wait: the one that changed them is next in line with a hand-over of its own.
    if (next && next === group.members.at(-1)) assign(group, next);
  }

  function assign(group: Group, member: Member): void {
    const { topic, group: name, onAssigned } = member.options;
    const lost = new AbortController();
    const run = async () => {
      try {
        await onAssigned(makeAssignment(topic, name, lost.signal));
      } catch (error) {
        if (!(error instanceof AssignmentLostError)) leave(group, member, error);
      }
    };
    // Started in a later microtask, when `owner` is set: a handler that fails at once finds itself the owner.
    group.owner = { member, lost, handler: Promise.resolve().then(run) };
  }

  function leave(group: Group, member: Member, error?: unknown): void {
    if (!group.members.includes(member)) return;
    group.members = group.members.filter((other) => other !== member);
    const left = settle(group);
    void left.then(() => (error === undefined ? member.left.resolve() : member.left.reject(error)));
  }

  return {
    async join(options) {
      if (options.signal.aborted) return;
      const group = groupOf(options);
      const member: Member = { options, left: Promise.withResolvers() };
      const onAbort = () => leave(group, member);
      options.signal.addEventListener("abort", onAbort, { once: true });
      group.members.push(member);
      void settle(group);
      try {
        await member.left.promise;
      } finally {
        options.signal.removeEventListener("abort", onAbort);
      }
    },
    async close() {
      const all = [...groups.values()];
      for (const group of all) for (const member of [...group.members]) leave(group, member);
      await Promise.all(all.map((group) => group.change));
    },
  };
}

async function endsWithin(work: Promise<void>, limitMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), limitMs);
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
