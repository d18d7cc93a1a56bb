// Which copy of the stats service evaluates alerts: the member of a consumer group that has the one partition of a topic
// without records (docs/decisions/alert-lease.md). The generation of the membership is the fence.

import { type Assignment, AssignmentLostError, type EventLog } from "#lib/eventlog/log.ts";
import { ALERTS_GROUP, ALERTS_TOPIC } from "#lib/events/topics.ts";
import type { Logger } from "#lib/process/log.ts";
import { sleepUnless } from "#lib/process/waiting.ts";

export interface Lease {
  /** Fires when the lease was lost, or may have been, and when the process is to stop. */
  readonly lost: AbortSignal;
  /**
   * Resolves when the log has said within the last seconds that this copy holds the lease; rejects with
   * AssignmentLostError when it does not. To be asked before anything is written or sent: a process that was frozen
   * finds out here.
   */
  confirm(): Promise<void>;
}

export interface LeaseOptions {
  log: EventLog;
  /** Works under the lease until `lost` fires. What else it rejects with is logged, and the lease is requested again. */
  onHeld(lease: Lease): Promise<void>;
  signal: AbortSignal;
  logger: Logger;
}

/** How long a confirmation counts. Below the least time after which the lease can go to another copy. */
const CONFIRMED_MS = 500;
const REJOIN_MS = 1000;

/** Asks for the lease until `signal` fires; never rejects. */
export async function holdLease({ log, onHeld, signal, logger }: LeaseOptions): Promise<void> {
  const onAssigned = async (assignment: Assignment) => {
    // Should the topic have been made with more partitions, the holder of the first one holds the lease.
    if (assignment.partition !== 0) return;
    try {
      await onHeld(createLease(assignment, signal));
    } catch (error) {
      // Whatever fails after the loss fails because of it, and is the next holder's to do.
      if (assignment.lost.aborted || signal.aborted || error instanceof AssignmentLostError) return;
      throw error;
    }
  };
  while (!signal.aborted) {
    try {
      await log.consume({ topic: ALERTS_TOPIC, group: ALERTS_GROUP, signal, onAssigned });
    } catch (err) {
      logger.error({ err, topic: ALERTS_TOPIC }, "alerts are not evaluated here, trying again");
    }
    await sleepUnless(signal, REJOIN_MS);
  }
}

function createLease(assignment: Assignment, stopping: AbortSignal): Lease {
  const lost = AbortSignal.any([assignment.lost, stopping]);
  let confirmedAt = Number.NEGATIVE_INFINITY;
  let confirming: Promise<void> | undefined;

  async function commit(): Promise<void> {
    const sentAt = performance.now();
    await assignment.commit({ offset: 0, metadata: "" });
    confirmedAt = sentAt;
  }
  return {
    lost,
    async confirm() {
      lost.throwIfAborted();
      if (performance.now() - confirmedAt < CONFIRMED_MS) return;
      confirming ??= commit().finally(() => {
        confirming = undefined;
      });
      await confirming;
      lost.throwIfAborted();
    },
  };
}
