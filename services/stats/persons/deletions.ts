// Deletions of persons that callers of the RPC have asked for: one after another, each to its end.

import type { LogReader } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { type Certificate, isClean } from "#lib/identity/erasure/certificate.ts";
import type { Behind } from "#lib/identity/erasure/consumed.ts";
import { deletePerson } from "#lib/identity/erasure/delete-person.ts";
import type { EraseStep } from "#lib/identity/erasure/erase.ts";
import type { Logger } from "#lib/process/log.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface DeletionProgress {
  step: EraseStep | "wait for turn";
  /** Of step "wait". */
  behind: readonly Behind[];
}

export interface Deletion {
  readonly progress: DeletionProgress;
  /** Resolves when `progress` is replaced, or when the deletion has ended. */
  readonly changed: Promise<void>;
  readonly isOver: boolean;
  /** Rejects like deletePerson. It need not be waited for: what fails is logged. */
  readonly result: Promise<Certificate>;
}

export interface Deletions extends AsyncDisposable {
  /**
   * By an own person id. While the deletion waits for its turn it is dropped when `caller` fires; after that it goes on
   * without its caller. Throws TooManyDeletionsError.
   */
  begin(ownId: string, caller: AbortSignal): Deletion;
}

/** Too many wait for their turn. */
export class TooManyDeletionsError extends Error {
  override readonly name = "TooManyDeletionsError";
}

export interface DeletionsOptions {
  log: LogReader;
  warehouse: Warehouse;
  logger: Logger;
  /** How long the consumer may stand still, milliseconds. */
  patienceMs: number;
  /** Fires when the service stops: the step under way ends, and no other begins. */
  stopSignal: AbortSignal;
  /** How long disposing waits for that step, milliseconds. */
  stopMs: number;
}

const DELETIONS_MAX = 16;

/** To be disposed of after `stopSignal` has fired. Asking again resumes the deletion where it was. */
export function createDeletions(options: DeletionsOptions): Deletions {
  const { log, warehouse, logger, patienceMs, stopSignal, stopMs } = options;
  const pending = new Set<Promise<unknown>>();
  let last: Promise<unknown> = Promise.resolve();

  function begin(ownId: string, caller: AbortSignal): Deletion {
    if (pending.size >= DELETIONS_MAX) {
      throw new TooManyDeletionsError(`${DELETIONS_MAX} persons are being deleted, one after another; try again later`);
    }
    let progress: DeletionProgress = { step: "wait for turn", behind: [] };
    let isOver = false;
    let change = Promise.withResolvers<void>();
    const show = (next: DeletionProgress) => {
      progress = next;
      change.resolve();
      change = Promise.withResolvers();
    };
    const run = () =>
      deletePerson(
        {
          ...{ log, warehouse, topic: EVENTS_TOPIC, patienceMs, nowMs: Date.now },
          ...{ waitSignal: caller, stopSignal },
          onWaitForTurn: () => {},
          onStep: (step) => show({ step, behind: [] }),
          onLook: (behind) => show({ step: "wait", behind }),
        },
        ownId,
      );
    const result = last.then(run);
    last = result.then(logEnd, (error) => logFailure(error, caller));
    const ended = last.finally(() => {
      isOver = true;
      pending.delete(ended);
      change.resolve();
    });
    pending.add(ended);
    // A place in the queue is not kept for somebody who has left.
    caller.addEventListener("abort", () => progress.step === "wait for turn" && pending.delete(ended), { once: true });
    return {
      get progress() {
        return progress;
      },
      get changed() {
        return change.promise;
      },
      get isOver() {
        return isOver;
      },
      result,
    };
  }

  function logEnd(certificate: Certificate): void {
    const { erasure, erased } = certificate;
    logger.info({ erasure: erasure.id, erased, clean: isClean(certificate) }, "person erased");
  }

  function logFailure(err: unknown, caller: AbortSignal): void {
    if (err === caller.reason) return;
    logger.warn({ err }, "the erasure of a person was interrupted; asking for it again continues it");
  }

  return {
    begin,
    async [Symbol.asyncDispose]() {
      const over = new AbortController();
      await Promise.race([Promise.all(pending).finally(() => over.abort()), sleepUnless(over.signal, stopMs)]);
    },
  };
}
