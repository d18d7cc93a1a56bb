// What became of the replays of one letter. A row does not say where its record came from, the record does: where the
// log still has it, its origin is compared; where not, a row under the same id is told as just that.
import { type LogReader, LogUnavailableError, OffsetOutOfRangeError } from "#lib/eventlog/log.ts";
import type { LogPlace } from "#lib/events/replay-record.ts";
import { currentEpoch } from "#lib/ledger/epochs.ts";
import type { Letter, Letters } from "#lib/letters/letters.ts";
import { firstRow, type StoredRow } from "#lib/letters/stored-rows.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { readLetter, readOrigin } from "./reading.ts";

export interface Replay extends StoredRow {
  outcome: "row" | "duplicate" | "dead_letter";
  /** Error of a dead letter. */
  error?: string;
  /** False when the log no longer says whether this is the letter's replay or, say, the caller's own retry. */
  isCertain: boolean;
}

/** The origin of the record at a position; null when it is not a replay, undefined when the log does not tell. */
export type OriginReader = (place: LogPlace) => Promise<LogPlace | null | undefined>;

const SHOWN_MAX = 100;

/** In the order of their append times. `letter` may itself be a replay: then it is about those of its origin. */
export async function findReplays(
  warehouse: Warehouse,
  letters: Letters,
  originAt: OriginReader,
  letter: Letter,
): Promise<Replay[]> {
  const reading = readLetter(letter);
  if (!reading) return [];
  const { identity, mark } = reading;
  const root = reading.origin ?? letter;
  const row = identity && (await firstRow(warehouse, identity));
  const replays: Replay[] = [];
  if (row) {
    const origin = await originAt(row);
    if (origin === undefined || isSame(origin, root)) {
      replays.push({ ...row, outcome: "row", isCertain: origin !== undefined });
    }
    for (const duplicate of await duplicatesOf(warehouse, row)) {
      if (isSame(await originAt(duplicate), root))
        replays.push({ ...duplicate, outcome: "duplicate", isCertain: true });
    }
  }
  for (const died of await letters.containing(mark, SHOWN_MAX)) {
    if (isSame(died, letter) || died.topic !== letter.topic) continue;
    if (isSame(readLetter(died)?.origin, root)) replays.push({ ...died, outcome: "dead_letter", isCertain: true });
  }
  return replays.sort((a, b) => a.appendTimeMs - b.appendTimeMs);
}

/** Reads the origins of records of the log's own incarnation. */
export function createOriginReader(log: LogReader, warehouse: Warehouse): OriginReader {
  let epoch: Promise<string | undefined> | undefined;
  return async ({ epoch: wanted, topic, partition, offset }) => {
    epoch ??= currentEpoch(log, warehouse, topic);
    if ((await epoch) !== wanted) return undefined;
    try {
      const [record] = await log.tail(topic, partition, { from: offset, maxRecords: 1, maxBytes: 1, maxWaitMs: 1000 });
      return record && readOrigin(topic, record.value);
    } catch (error) {
      // Trimmed, or the broker does not answer: what the tables say is told without it.
      if (error instanceof OffsetOutOfRangeError || error instanceof LogUnavailableError) return undefined;
      throw error;
    }
  };
}

async function duplicatesOf(warehouse: Warehouse, row: StoredRow): Promise<StoredRow[]> {
  const near = `${row.partition}:${row.offset}`;
  const found = await warehouse.query<Record<"epoch" | "partition" | "offset" | "ms", string>>(
    `SELECT log_epoch AS epoch, log_partition AS partition, toString(log_offset) AS offset,
            toString(toUnixTimestamp64Milli(log_time)) AS ms
     FROM log_outcomes
     WHERE log_topic = {topic:String} AND outcome IN ('duplicate', 'conflict')
       AND ((log_epoch = {epoch:String} AND detail = {near:String}) OR detail = {far:String})
     ORDER BY log_time LIMIT {limit:UInt32}`,
    { params: { topic: row.topic, epoch: row.epoch, near, far: `${row.epoch}:${near}`, limit: SHOWN_MAX } },
  );
  return found.map(({ epoch, partition, offset, ms }) => ({
    ...{ epoch, topic: row.topic, partition: Number(partition), offset: Number(offset), appendTimeMs: Number(ms) },
  }));
}

function isSame(a: LogPlace | null | undefined, b: LogPlace): boolean {
  if (!a) return false;
  return a.epoch === b.epoch && a.topic === b.topic && a.partition === b.partition && a.offset === b.offset;
}
