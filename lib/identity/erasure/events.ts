// Rows of the person in events_raw, and its dead letters: first the outcome that says why the offset is no row any more,
// then the deletion of what has that outcome, and of nothing else. So each offset stays accounted for at every moment, and
// a row that the consumer stores meanwhile is left for the next pass instead of being lost to the audit.
import { randomUUID } from "node:crypto";
import { type Erasure, ownerOf } from "#lib/identity/erasures.ts";
import { OUTCOME_COLUMNS, outcomeRow } from "#lib/ledger/outcome-rows.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { mutate, STATEMENT_SECONDS_MAX } from "./mutation.ts";
import { BELOW, ERASED, IDS, POSITION } from "./sql.ts";

const PAGE_LETTERS = 2000;
/** Base64 characters of one page of letters. */
const PAGE_CHARS = 16_000_000;

export const OWN_ROWS = `person_id_at_ingest IN ${IDS} AND ${BELOW}`;

/** Rows are hidden when it resolves. */
export async function eraseEvents(warehouse: Warehouse, { id }: Erasure): Promise<void> {
  const options = { params: { erasure: id }, maxSeconds: STATEMENT_SECONDS_MAX };
  // Identical blocks are to land each time: a token whose rows were lost must not stand in the way.
  await warehouse.command(
    `INSERT INTO log_outcomes (${POSITION}, log_time, outcome, detail)
     SELECT ${POSITION}, log_time, 'erased', toString({erasure:UUID}) FROM events_raw
     WHERE ${OWN_ROWS} AND (${POSITION}) NOT IN ${ERASED}
     SETTINGS insert_deduplicate = 0, max_partitions_per_insert_block = 0`,
    options,
  );
  await deleteErased(warehouse, "events_raw", `person_id_at_ingest IN ${IDS}`, id);
}

export async function eraseLetters(warehouse: Warehouse, erasure: Erasure): Promise<void> {
  const ids = new Set(erasure.ownIds);
  for await (const page of readLetters(warehouse, BELOW, { erasure: erasure.id })) {
    const own = page.filter((letter) => isOf(ids, letter));
    if (own.length > 0) await markErased(warehouse, erasure, own);
  }
  await deleteErased(warehouse, "dead_letters", "true", erasure.id);
  await deleteErased(warehouse, "log_outcomes", "outcome = 'dead_letter'", erasure.id);
}

/** Letters that speak of one of these own person ids; with an erasure, those that it reaches. */
export async function countLetters(
  warehouse: Warehouse,
  ownIds: readonly string[],
  erasure?: Erasure,
): Promise<number> {
  const ids = new Set(ownIds);
  let count = 0;
  const [where, params] = erasure === undefined ? ["true", {}] : [BELOW, { erasure: erasure.id }];
  for await (const page of readLetters(warehouse, where, params)) {
    count += page.filter((letter) => isOf(ids, letter)).length;
  }
  return count;
}

/** Removes what is hidden from the files. What else was hidden in these tables goes as well. */
export async function removeHidden(warehouse: Warehouse): Promise<void> {
  for (const table of ["events_raw", "dead_letters", "log_outcomes"]) {
    await mutate(warehouse, table, `ALTER TABLE ${table} APPLY DELETED MASK SETTINGS mutations_sync = 0`);
  }
}

/** A deletion gives every part of the table a new name, so there is none for nothing. */
async function deleteErased(warehouse: Warehouse, table: string, where: string, erasureId: string): Promise<void> {
  const options = { params: { erasure: erasureId }, maxSeconds: STATEMENT_SECONDS_MAX };
  const condition = `${where} AND (${POSITION}) IN ${ERASED}`;
  const found = await warehouse.query(`SELECT 1 FROM ${table} WHERE ${condition} LIMIT 1`, options);
  if (found.length === 0) return;
  await mutate(warehouse, table, `DELETE FROM ${table} WHERE ${condition} SETTINGS lightweight_deletes_sync = 0`, {
    erasure: erasureId,
  });
}

interface Letter {
  epoch: string;
  topic: string;
  partition: number;
  offset: number;
  appendTimeMs: number;
  key: Uint8Array;
  value: Uint8Array;
}

function isOf(ids: ReadonlySet<string>, letter: Letter): boolean {
  const owner = ownerOf(letter);
  return owner !== undefined && ids.has(owner);
}

async function markErased(warehouse: Warehouse, { id }: Erasure, letters: readonly Letter[]): Promise<void> {
  const known = await warehouse.query<{ place: string }>(
    `SELECT concat(log_epoch, ':', log_topic, ':', toString(log_partition), ':', toString(log_offset)) AS place
     FROM log_outcomes WHERE outcome = 'erased' AND detail = toString({erasure:UUID}) AND log_offset IN {offsets:Array(UInt64)}`,
    { params: { erasure: id, offsets: letters.map(({ offset }) => offset) }, maxSeconds: STATEMENT_SECONDS_MAX },
  );
  const places = new Set(known.map(({ place }) => place));
  const fresh = letters.filter((l) => !places.has(`${l.epoch}:${l.topic}:${l.partition}:${l.offset}`));
  if (fresh.length === 0) return;
  const rows = Buffer.concat(fresh.map((letter) => outcomeRow(letter, letter, "erased", id)));
  await warehouse.insert({ table: "log_outcomes", columns: OUTCOME_COLUMNS, rows, token: randomUUID() });
}

/** Page by page, each bounded in bytes; a letter can have a megabyte. */
async function* readLetters(
  warehouse: Warehouse,
  where: string,
  params: Record<string, unknown>,
): AsyncGenerator<Letter[]> {
  type Row = Record<"epoch" | "topic" | "partition" | "offset" | "ms" | "key" | "value", string>;
  const cursorSql = "({cEpoch:String}, {cTopic:String}, {cPartition:UInt32}, {cOffset:UInt64})";
  let last: Letter | undefined;
  for (;;) {
    const after = last && { cEpoch: last.epoch, cTopic: last.topic, cPartition: last.partition, cOffset: last.offset };
    const rows = await warehouse.query<Row>(
      `SELECT log_epoch AS epoch, log_topic AS topic, log_partition AS partition, log_offset AS offset,
              toUnixTimestamp64Milli(log_time) AS ms, key_base64 AS key, value_base64 AS value
       FROM (
         SELECT *, length(key_base64) + length(value_base64) AS chars,
                sum(chars) OVER (ORDER BY ${POSITION} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - chars AS before
         FROM (
           SELECT ${POSITION}, log_time, key_base64, value_base64 FROM dead_letters
           WHERE ${where} ${after ? `AND (${POSITION}) > ${cursorSql}` : ""} ORDER BY ${POSITION} LIMIT {limit:UInt32}
         )
       ) WHERE before < {chars:UInt64} ORDER BY ${POSITION}`,
      { params: { ...params, ...after, limit: PAGE_LETTERS, chars: PAGE_CHARS }, maxSeconds: STATEMENT_SECONDS_MAX },
    );
    const page = rows.map(
      ({ epoch, topic, partition, offset, ms, key, value }): Letter => ({
        ...{ epoch, topic, partition: Number(partition), offset: Number(offset), appendTimeMs: Number(ms) },
        ...{ key: Buffer.from(key, "base64"), value: Buffer.from(value, "base64") },
      }),
    );
    last = page.at(-1);
    if (!last) return;
    yield page;
  }
}
