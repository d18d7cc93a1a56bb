// Stores the identity facts of rows, before the rows' range is committed: after a kill in between, the next owner stores
// them again.
import { randomUUID } from "node:crypto";
import type { StoredRecord } from "#lib/eventlog/log.ts";
import { createRecordScanner } from "#lib/events/record-scanner.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { addIdentityRows, IDENTITY_COLUMNS, IDENTITY_TABLES, noIdentityRows } from "#lib/identity/rows.ts";
import type { VoidReason } from "#lib/identity/said.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { askPatiently } from "../patience.ts";
import { factsOfRecord } from "./record-facts.ts";

export interface FactWriterDeps {
  warehouse: Warehouse;
  origin: RowOrigin;
  /** Ends the waiting for ClickHouse. */
  lost: AbortSignal;
  logger: Logger;
  /** Edges of the partition were stored. */
  onEdges(): void;
  /** So many merges were not made, for want of a secret key. */
  onRefused(count: number): void;
  /** Once for each thing that was said and is no fact. */
  onVoid(reason: VoidReason): void;
}

export interface FactWriter {
  /**
   * Facts of records that are rows. Storing them again adds nothing to a set, so no token keeps the inserts from landing
   * twice, and each lands. Waits for ClickHouse; rejects with the reason of `lost`, or as `fence` does, which is called
   * before each insert: facts that come after their person was erased would bring it back.
   */
  store(records: readonly StoredRecord[], fence: () => Promise<void>): Promise<void>;
}

/** Rows are several times as long as what they were made of, so they are made and sent piece by piece. */
const PIECE_CHARACTERS = 4_000_000;

export function createFactWriter(deps: FactWriterDeps): FactWriter {
  const { warehouse, origin } = deps;
  const event = createRecordScanner();

  async function send(rows: ReturnType<typeof noIdentityRows>, fence: () => Promise<void>): Promise<void> {
    // The edges last: they are what the resolver goes by.
    for (const table of IDENTITY_TABLES) {
      const text = rows[table].splice(0);
      if (text.length === 0) continue;
      const insertion = { table, columns: IDENTITY_COLUMNS[table], rows: Buffer.from(text.join("")) };
      // The rows are ours, so a refusal is no fault of theirs: it is waited for, too.
      const attempt = async () => {
        await fence();
        await warehouse.insert({ ...insertion, token: randomUUID(), signal: deps.lost });
      };
      await askPatiently(attempt, { signal: deps.lost, logger: deps.logger });
    }
  }

  return {
    async store(records, fence) {
      const rows = noIdentityRows();
      let characters = 0;
      let hasEdges = false;
      let refused = 0;
      for (const { offset, value } of records) {
        event.scan(value);
        const facts = factsOfRecord(event);
        if (facts.isRefused) refused++;
        for (const reason of facts.voids ?? []) deps.onVoid(reason);
        hasEdges ||= facts.edge !== undefined;
        characters += addIdentityRows(rows, facts, origin, offset);
        if (characters < PIECE_CHARACTERS) continue;
        await send(rows, fence);
        characters = 0;
      }
      await send(rows, fence);
      if (refused > 0) deps.onRefused(refused);
      if (hasEdges) deps.onEdges();
    },
  };
}
