// Reading the table dead_letters, in pages bounded by bytes: one letter may have a megabyte.
import type { DeadRecord, LogPlace } from "#lib/events/replay-record.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface Letter extends DeadRecord {
  errorClass: string;
  error: string;
}

/** What is absent does not restrict. */
export interface LetterFilter {
  errorClass?: string | undefined;
  /** Append time at or after it, milliseconds since 1970. */
  sinceMs?: number | undefined;
  /** Append time before it, milliseconds since 1970. */
  untilMs?: number | undefined;
  topic?: string | undefined;
  partition?: number | undefined;
  places?: readonly LogPlace[] | undefined;
}

export interface ClassSum {
  errorClass: string;
  count: number;
  firstMs: number;
  lastMs: number;
  /** Error of the newest. */
  example: string;
}

export interface Letters {
  /** All epochs that have letters. */
  epochs(): Promise<string[]>;
  /** Most frequent first. */
  classes(filter: LetterFilter): Promise<ClassSum[]>;
  /** Highest offset with a letter, by `partitionKey`. */
  highest(filter: LetterFilter): Promise<Map<string, number>>;
  /** By append time. Letters that are stored while it reads may be among them or not. */
  read(filter: LetterFilter, order: "newest" | "oldest", limit?: number): AsyncGenerator<Letter[]>;
  /** Letters whose bytes contain these, oldest first. */
  containing(bytes: Uint8Array, limit: number): Promise<Letter[]>;
}

/** Positions are bound values, which travel in a URL. */
const PAGE_LETTERS = 250;
/** Base64 characters of one page of letters. */
const PAGE_CHARS = 8_000_000;

const TIME = "toUnixTimestamp64Milli(log_time)";
const PLACE_COLUMNS =
  "log_epoch AS epoch, log_topic AS topic, log_partition AS partition, toString(log_offset) AS offset";

interface Head extends LogPlace {
  ms: number;
  chars: number;
}

/** The partition of one incarnation of a topic, as a key. */
export function partitionKey({ epoch, topic, partition }: LogPlace): string {
  return `${epoch}:${topic}:${partition}`;
}

export function createLetters(warehouse: Warehouse): Letters {
  /** Positions and sizes only, so that a page can be cut before its bytes are read. */
  async function heads(
    filter: LetterFilter,
    order: "newest" | "oldest",
    limit: number,
    after: Head | undefined,
  ): Promise<Head[]> {
    const { where, params } = conditionOf(filter);
    const [direction, beyond] = order === "newest" ? ["DESC", "<"] : ["ASC", ">"];
    const sortKey = [TIME, "log_epoch", "log_topic", "log_partition", "log_offset"];
    const cursor = "({cMs:Int64}, {cEpoch:String}, {cTopic:String}, {cPartition:UInt32}, {cOffset:UInt64})";
    const rows = await warehouse.query<Record<"epoch" | "topic" | "partition" | "offset" | "ms" | "chars", string>>(
      `SELECT ${PLACE_COLUMNS}, toString(${TIME}) AS ms, toString(length(key_base64) + length(value_base64)) AS chars
       FROM dead_letters WHERE ${where} ${after ? `AND (${sortKey.join(", ")}) ${beyond} ${cursor}` : ""}
       ORDER BY ${sortKey.map((column) => `${column} ${direction}`).join(", ")} LIMIT {limit:UInt64}`,
      { params: { ...params, limit, ...(after && cursorOf(after)) } },
    );
    return rows.map(({ epoch, topic, partition, offset, ms, chars }) => ({
      ...{ epoch, topic, partition: Number(partition), offset: Number(offset) },
      ...{ ms: Number(ms), chars: Number(chars) },
    }));
  }

  async function load(places: readonly LogPlace[]): Promise<Letter[]> {
    type Row = Record<"epoch" | "topic" | "partition" | "offset" | "ms" | "class" | "error" | "key" | "value", string>;
    if (places.length === 0) return [];
    const { sql, params } = atPlaces(places);
    const rows = await warehouse.query<Row>(
      `SELECT ${PLACE_COLUMNS}, toString(${TIME}) AS ms, error_class AS class, error, key_base64 AS key, value_base64 AS value
       FROM dead_letters WHERE ${sql}`,
      { params },
    );
    const byPlace = new Map(
      rows.map(({ epoch, topic, partition, offset, ms, class: errorClass, error, key, value }) => [
        `${epoch}:${topic}:${partition}:${offset}`,
        {
          ...{ epoch, topic, partition: Number(partition), offset: Number(offset), appendTimeMs: Number(ms) },
          ...{ errorClass, error, key: Buffer.from(key, "base64"), value: Buffer.from(value, "base64") },
        },
      ]),
    );
    // In the order asked for; a letter that was deleted meanwhile is left out.
    return places.flatMap((place) => byPlace.get(`${partitionKey(place)}:${place.offset}`) ?? []);
  }

  async function* read(filter: LetterFilter, order: "newest" | "oldest", limit = Number.MAX_SAFE_INTEGER) {
    let left = limit;
    let last: Head | undefined;
    while (left > 0) {
      const found = await heads(filter, order, Math.min(left, PAGE_LETTERS), last);
      for (const page of cutByChars(found)) yield await load(page);
      left -= found.length;
      last = found.at(-1);
      if (found.length < PAGE_LETTERS) return;
    }
  }

  return {
    read,
    async epochs() {
      const rows = await warehouse.query<{ epoch: string }>("SELECT DISTINCT log_epoch AS epoch FROM dead_letters");
      return rows.map(({ epoch }) => epoch);
    },
    async classes(filter) {
      const { where, params } = conditionOf(filter);
      const rows = await warehouse.query<Record<"class" | "n" | "first" | "last" | "example", string>>(
        `SELECT error_class AS class, toString(count()) AS n, toString(min(${TIME})) AS first,
                toString(max(${TIME})) AS last, argMax(error, log_time) AS example
         FROM dead_letters WHERE ${where} GROUP BY error_class ORDER BY count() DESC, class`,
        { params },
      );
      return rows.map(({ class: errorClass, n, first, last, example }) => ({
        ...{ errorClass, count: Number(n), firstMs: Number(first), lastMs: Number(last), example },
      }));
    },
    async highest(filter) {
      const { where, params } = conditionOf(filter);
      const rows = await warehouse.query<Record<"epoch" | "topic" | "partition" | "highest", string>>(
        `SELECT log_epoch AS epoch, log_topic AS topic, log_partition AS partition, toString(max(log_offset)) AS highest
         FROM dead_letters WHERE ${where} GROUP BY log_epoch, log_topic, log_partition`,
        { params },
      );
      return new Map(
        rows.map(({ epoch, topic, partition, highest }) => [`${epoch}:${topic}:${partition}`, Number(highest)]),
      );
    },
    async containing(bytes, limit) {
      const rows = await warehouse.query<Record<"epoch" | "topic" | "partition" | "offset", string>>(
        `SELECT ${PLACE_COLUMNS} FROM dead_letters
         WHERE position(tryBase64Decode(value_base64), unhex({bytes:String})) > 0 ORDER BY log_time LIMIT {limit:UInt32}`,
        { params: { bytes: Buffer.from(bytes).toString("hex"), limit } },
      );
      return load(rows.map((row) => ({ ...row, partition: Number(row.partition), offset: Number(row.offset) })));
    },
  };
}

function* cutByChars(heads: readonly Head[]): Generator<Head[]> {
  let page: Head[] = [];
  let chars = 0;
  for (const head of heads) {
    if (page.length > 0 && chars + head.chars > PAGE_CHARS) {
      yield page;
      page = [];
      chars = 0;
    }
    page.push(head);
    chars += head.chars;
  }
  if (page.length > 0) yield page;
}

function cursorOf({ ms, epoch, topic, partition, offset }: Head) {
  return { cMs: ms, cEpoch: epoch, cTopic: topic, cPartition: partition, cOffset: offset };
}

function conditionOf(filter: LetterFilter): { where: string; params: Record<string, unknown> } {
  const { errorClass, sinceMs, untilMs, topic, partition, places } = filter;
  const conditions: [sql: string, name: string, value: unknown][] = [
    ["error_class = {class:String}", "class", errorClass],
    ["log_time >= fromUnixTimestamp64Milli({since:Int64})", "since", sinceMs],
    ["log_time < fromUnixTimestamp64Milli({until:Int64})", "until", untilMs],
    ["log_topic = {topic:String}", "topic", topic],
    ["log_partition = {partition:UInt32}", "partition", partition],
  ];
  const given = conditions.filter(([, , value]) => value !== undefined);
  const at = places ? atPlaces(places) : { sql: "true", params: {} };
  return {
    where: [at.sql, ...given.map(([sql]) => sql)].join(" AND "),
    params: { ...at.params, ...Object.fromEntries(given.map(([, name, value]) => [name, value])) },
  };
}

/** One condition a partition: the table is sorted by these columns, and a list of offsets is a set that its index knows. */
function atPlaces(places: readonly LogPlace[]): { sql: string; params: Record<string, unknown> } {
  const params: Record<string, unknown> = {};
  const byPartition = [...Map.groupBy(places, partitionKey).values()];
  const conditions = byPartition.map((group, n) => {
    const { epoch, topic, partition } = group[0] as LogPlace;
    Object.assign(params, { [`e${n}`]: epoch, [`t${n}`]: topic, [`p${n}`]: partition });
    params[`o${n}`] = group.map(({ offset }) => offset);
    const where = `log_epoch = {e${n}:String} AND log_topic = {t${n}:String} AND log_partition = {p${n}:UInt32}`;
    return `(${where} AND log_offset IN {o${n}:Array(UInt64)})`;
  });
  return { sql: conditions.length === 0 ? "false" : `(${conditions.join(" OR ")})`, params };
}
