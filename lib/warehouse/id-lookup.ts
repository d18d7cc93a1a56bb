// Where rows with given ids are stored, whatever their age, epoch, partition and shard. Rows of events are found by the
// projection by_id (docs/decisions/ids-by-projection.md), which reads a granule for each id and part; whoever asks for ids
// asks here.
import { shardsOf, type Warehouse } from "./warehouse.ts";
import { isTooSlow } from "./warehouse-errors.ts";

export interface IdPlace {
  uuid: string;
  apiKey: string;
  epoch: string;
  partition: number;
  offset: number;
}

export interface IdTable {
  /** Its rows are of one topic. */
  name: string;
  /** In SQL. */
  apiKey: string;
  /** It has the projection by_id; otherwise its bloom filters are asked, which serves a table that is kept short. */
  hasIdProjection: boolean;
}

export interface IdLookupOptions {
  signal?: AbortSignal | undefined;
  /** Server-side limit of each question, seconds. */
  maxSeconds?: number | undefined;
}

/** UUIDs as texts. Rejects with WarehouseError. */
export type IdLookup = (uuids: readonly string[], options?: IdLookupOptions) => Promise<IdPlace[]>;

const IDS_PER_QUESTION_MAX = 1000;
const SECONDS_MAX = 20;

/** The names of the projection's own expressions: a question that has any other would not be answered by it. */
const BY_PROJECTION = {
  hash: "sipHash64(uuid)",
  partition: "toUInt16(log_partition)",
};

/** Asked of every shard. A question that takes too long is cut in halves, and the next ones are as small. */
export function createIdLookup(warehouse: Warehouse, table: IdTable): IdLookup {
  /** What ClickHouse has answered in time. Kept from call to call: the same question, asked again, would fail again. */
  let idsPerQuestion = IDS_PER_QUESTION_MAX;
  const sql = table.hasIdProjection ? sqlByProjection(table) : sqlByBloomFilter(table);

  async function ask(uuids: readonly string[], { signal, maxSeconds = SECONDS_MAX }: IdLookupOptions) {
    const options = { params: { uuids }, signal, maxSeconds };
    const rows = await Promise.all(shardsOf(warehouse).map((shard) => shard.query<Row>(sql, options)));
    return rows
      .flat()
      .flatMap(({ u, k, e, p, o }) =>
        u.map((uuid) => ({ uuid, apiKey: k, epoch: e, partition: Number(p), offset: Number(o) })),
      );
  }

  return async (uuids, options = {}) => {
    const found: IdPlace[][] = [];
    for (let at = 0; at < uuids.length; ) {
      const asked = uuids.slice(at, at + idsPerQuestion);
      try {
        found.push(await ask(asked, options));
        at += asked.length;
      } catch (error) {
        if (!isTooSlow(error) || asked.length === 1) throw error;
        idsPerQuestion = Math.ceil(asked.length / 2);
      }
    }
    return found.flat();
  };
}

/** `u` are the ids that the row may be of: one, unless a hash of 64 bits is that of two of them. */
interface Row {
  u: string[];
  k: string;
  e: string;
  p: number;
  o: string;
}

/** The projection has hashes; which ids they are of is known from the question. */
function sqlByProjection({ name, apiKey }: IdTable): string {
  const { hash, partition } = BY_PROJECTION;
  return `WITH arrayMap(u -> sipHash64(toUUID(u)), {uuids:Array(String)}) AS hashes
    SELECT arrayFilter((u, h) -> h = hash, {uuids:Array(String)}, hashes) AS u, k, e, p, o
    FROM (
      SELECT ${hash} AS hash, ${apiKey} AS k, log_epoch AS e, ${partition} AS p, log_offset AS o
      FROM ${name}
      WHERE ${hash} IN (SELECT arrayJoin(arrayMap(u -> sipHash64(toUUID(u)), {uuids:Array(String)})))
      GROUP BY ${hash}, ${apiKey}, log_epoch, ${partition}, log_offset
    )
    SETTINGS optimize_use_projections = 1`;
}

function sqlByBloomFilter({ name, apiKey }: IdTable): string {
  return `SELECT [toString(uuid)] AS u, ${apiKey} AS k, log_epoch AS e, log_partition AS p, log_offset AS o
    FROM ${name} WHERE uuid IN {uuids:Array(UUID)}`;
}
