// One erasure at a time in a database, no matter who asks for it: the command, or any copy of the stats service
// (migrations/0007_erasure_turns.sql has the reason and the protocol).
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface Turn extends AsyncDisposable {
  /** To be asked before each step. Rejects with TurnLostError when somebody else may have taken over. */
  confirm(): Promise<void>;
}

/** This process was away, or cut off, for so long that others had to think it dead. */
export class TurnLostError extends Error {
  override readonly name = "TurnLostError";
}

export interface TurnOptions {
  /** Ends the waiting; the promise rejects with its reason. */
  signal?: AbortSignal | undefined;
  /** Called when others are there, before each pause. */
  onWait(): void;
}

/** A turn without a sign of life for that long is over. Milliseconds, as all below. */
const DEAD_MS = 60_000;
const SIGN_MS = 5_000;
/** How old the last sign may be for its turn to count: well before others think it over. */
const CONFIRMED_MS = 40_000;
const LOOK_MS = 500;

/** Resolves when nobody else erases. Rejects with WarehouseError, or with the signal's reason. */
export async function takeTurn(warehouse: Warehouse, { signal, onWait }: TurnOptions): Promise<Turn> {
  for (;;) {
    signal?.throwIfAborted();
    if (!(await isTaken(warehouse))) {
      const id = randomUUID();
      const signedAt = performance.now();
      await sign(warehouse, id, false);
      // A writer that signs after this look sees the row above.
      if (!(await isTaken(warehouse, id))) return holdTurn(warehouse, id, signedAt);
      await sign(warehouse, id, true);
    }
    onWait();
    // At random, so that two that stepped back for each other do not retry together.
    await pause(LOOK_MS * (0.5 + Math.random()), undefined, signal && { signal }).catch((error) => {
      signal?.throwIfAborted();
      throw error;
    });
  }
}

async function isTaken(warehouse: Warehouse, except = "00000000-0000-0000-0000-000000000000"): Promise<boolean> {
  const others = await warehouse.query(
    `SELECT turn_id FROM erasure_turns WHERE turn_id != {except:UUID}
     GROUP BY turn_id HAVING max(is_over) = 0 AND max(seen_at) > now64(3) - INTERVAL {dead:UInt32} MILLISECOND`,
    { params: { except, dead: DEAD_MS } },
  );
  return others.length > 0;
}

async function sign(warehouse: Warehouse, id: string, isOver: boolean): Promise<void> {
  await warehouse.command("INSERT INTO erasure_turns (turn_id, is_over) SELECT {id:UUID}, {over:UInt8}", {
    params: { id, over: isOver ? 1 : 0 },
  });
}

function holdTurn(warehouse: Warehouse, id: string, takenAt: number): Turn {
  let signedAt = takenAt;
  let signing: Promise<void> | undefined;

  async function renew(): Promise<void> {
    const sentAt = performance.now();
    await sign(warehouse, id, false);
    signedAt = sentAt;
  }
  const timer = setInterval(() => {
    signing ??= renew()
      // What it means is found out by confirm, and the next sign may succeed.
      .catch(() => undefined)
      .finally(() => {
        signing = undefined;
      });
  }, SIGN_MS);
  timer.unref();
  return {
    async confirm() {
      if (performance.now() - signedAt < CONFIRMED_MS) return;
      throw new TurnLostError(
        `the erasure has given no sign of life for ${CONFIRMED_MS / 1000} s, because this process or ClickHouse was away, ` +
          "and another may have begun: run it again, and it continues from here",
      );
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await signing;
      // Should it fail, the turn is over in a minute by itself.
      await sign(warehouse, id, true).catch(() => undefined);
    },
  };
}
