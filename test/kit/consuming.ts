// A consumer in the hands of a test: it takes every assignment and keeps it until it is lost.

import type { Assignment, OpenLog } from "#lib/eventlog/log.ts";

export interface HeldConsumer extends AsyncDisposable {
  /** Every assignment so far, lost ones too, oldest first. */
  readonly assignments: readonly Assignment[];
  /** Settles as `consume` does. */
  readonly ended: Promise<void>;
  /** Resolves at the next assignment. */
  changed(): Promise<void>;
}

/** Disposing it leaves the group. */
export function consuming(log: OpenLog, topic: string, group: string): HeldConsumer {
  const leaving = new AbortController();
  const assignments: Assignment[] = [];
  let next = Promise.withResolvers<void>();
  const ended = log.consume({
    topic,
    group,
    async onAssigned(assignment) {
      assignments.push(assignment);
      next.resolve();
      next = Promise.withResolvers();
      await untilLost(assignment);
    },
    signal: leaving.signal,
  });
  return {
    assignments,
    ended,
    changed: () => next.promise,
    async [Symbol.asyncDispose]() {
      leaving.abort();
      await ended;
    },
  };
}

/** The current assignment of `partition`, waiting for it. */
export async function assigned(consumer: HeldConsumer, partition: number): Promise<Assignment> {
  for (;;) {
    const held = consumer.assignments.find((one) => one.partition === partition && !one.lost.aborted);
    if (held) return held;
    await Promise.race([consumer.changed(), consumer.ended.then(() => Promise.reject(new Error("consume ended")))]);
  }
}

export async function untilLost({ lost }: Assignment): Promise<void> {
  if (lost.aborted) return;
  await new Promise<void>((resolve) => lost.addEventListener("abort", () => resolve(), { once: true }));
}
