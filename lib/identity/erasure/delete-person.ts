// A person deleted from end to end, for both ways to ask: `millrace persons delete` and PersonService.
import { createErasures, type Erasure } from "#lib/identity/erasures.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type Certificate, certify } from "./certificate.ts";
import { beginErasure, type EraseDeps, finishErasure } from "./erase.ts";
import { DeletionFailedError } from "./mutation.ts";
import { isNothing, type Preview, previewOf } from "./preview.ts";
import { takeTurn } from "./turn.ts";

export interface Found {
  preview: Preview;
  /** Tombstone of an erasure that was begun and may have left something. */
  unfinished: Erasure | undefined;
  /** Tombstone of one that is finished, when nothing is stored since. */
  finished: Erasure | undefined;
}

/** Nothing is stored of the person, and nothing was erased. */
export function isUnknown({ preview, unfinished, finished }: Found): boolean {
  return unfinished === undefined && finished === undefined && isNothing(preview);
}

/** By an own person id. Changes nothing. Rejects with PersonTooLargeError or WarehouseError. */
export async function findPerson(warehouse: Warehouse, ownId: string): Promise<Found> {
  const known = await createErasures(warehouse).newestOf(ownId);
  const preview = await previewOf(warehouse, ownId);
  const isFinished = known?.finishedAtMs !== undefined;
  return {
    preview,
    unfinished: isFinished ? undefined : known,
    finished: isFinished && isNothing(preview) ? known : undefined,
  };
}

export interface DeleteDeps extends EraseDeps {
  /** Ends the waiting for others, while nothing is done yet. */
  waitSignal?: AbortSignal | undefined;
  /** Ends it between two steps; running it again goes on from there. */
  stopSignal?: AbortSignal | undefined;
  /** Others erase; called again and again. */
  onWaitForTurn(): void;
}

/**
 * Goes on with an erasure that was not finished, or begins one; when nothing is left since the last one, certifies that
 * again. Waits while others erase in this database. Rejects like beginErasure and finishErasure, with TurnLostError, with
 * DeletionFailedError for a cluster, or with a signal's reason.
 */
export async function deletePerson(deps: DeleteDeps, ownId: string): Promise<Certificate> {
  const { log, warehouse, waitSignal, stopSignal } = deps;
  // Mutations know no Distributed table, and half an erasure would pass for a whole one.
  if (warehouse.cluster)
    throw new DeletionFailedError("deleting persons is not made for clusters yet; nothing was deleted");
  const signal = AbortSignal.any([waitSignal, stopSignal].filter((each) => each !== undefined));
  await using turn = await takeTurn(warehouse, { signal, onWait: deps.onWaitForTurn });
  // Who left while the turn was taken waits for nothing any more.
  signal.throwIfAborted();
  // Others may have done it meanwhile.
  const { unfinished, finished } = await findPerson(warehouse, ownId);
  if (finished) return await certify(log, warehouse, finished);
  const fenced: EraseDeps = {
    ...deps,
    async onStep(step) {
      stopSignal?.throwIfAborted();
      await turn.confirm();
      await deps.onStep(step);
    },
    onLook(behind) {
      stopSignal?.throwIfAborted();
      deps.onLook(behind);
    },
  };
  return await finishErasure(fenced, unfinished ?? (await beginErasure(fenced, ownId)));
}
