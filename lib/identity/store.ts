// The people in ClickHouse: what resolving asks there, and what it keeps. Ids are own person ids, bound as parameters.
import { randomUUID } from "node:crypto";
import { personIdOf } from "#lib/events/ids.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import { OF_PARTITION } from "#lib/warehouse/positions.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { FROZEN_VERSION, type Link, type PeopleStore } from "./closure.ts";
import type { Edge, EdgeKind } from "./facts.ts";

/** Ids that an edge names, and the offset it came from. */
export interface LoggedEdge {
  ids: Link;
  offset: number;
}

export interface IdentityStore extends PeopleStore {
  /** First offset of the partition whose edges are not resolved yet. */
  progress(origin: RowOrigin): Promise<number>;
  /** Edges of the partition from `from` on, by offset, at most `max`. */
  logged(origin: RowOrigin, from: number, max: number): Promise<LoggedEdge[]>;
  /** Epochs of the partition of which there are edges. */
  epochs(origin: RowOrigin): Promise<string[]>;
  moveTo(positions: readonly (readonly [RowOrigin, number])[]): Promise<void>;
}

export interface StoreOptions {
  signal?: AbortSignal;
  /**
   * Of an id that very many edges name, the first so many are looked at of each kind: those of known people, those that
   * give it to others, those that give others to it.
   */
  edgesPerIdMax?: number;
}

const EDGES_PER_ID_MAX = 10_000;
const RELATIVES_MAX = 10_000;
const IDS_PER_QUERY = 2000;
const ROWS_PER_INSERT = 50_000;
const NOBODY = personIdOf("");

/** Methods reject with WarehouseError, or with the reason of the signal. */
export function createIdentityStore(warehouse: Warehouse, options: StoreOptions = {}): IdentityStore {
  const { signal, edgesPerIdMax = EDGES_PER_ID_MAX } = options;
  const nameOf = (id: string) => (id === NOBODY ? "" : id);

  async function byChunks<T>(ids: readonly string[], ask: (some: readonly string[]) => Promise<T[]>): Promise<T[]> {
    const found: T[][] = [];
    for (let at = 0; at < ids.length; at += IDS_PER_QUERY) found.push(await ask(ids.slice(at, at + IDS_PER_QUERY)));
    return found.flat();
  }

  async function insert(table: string, columns: readonly string[], rows: readonly unknown[][]): Promise<void> {
    for (let at = 0; at < rows.length; at += ROWS_PER_INSERT) {
      const lines = rows.slice(at, at + ROWS_PER_INSERT).map((row) => `${JSON.stringify(row)}\n`);
      // Always to land: what the same rows would do a second time is nothing.
      await warehouse.insert({ table, columns, rows: Buffer.from(lines.join("")), token: randomUUID(), signal });
    }
  }

  return {
    async version() {
      const rows = await warehouse.query<{ n: string }>("SELECT count() AS n FROM identity_edges", { signal });
      return Number(rows[0]?.n ?? 0);
    },
    async edgesOf(ids) {
      const rows = await byChunks(ids, (some) =>
        warehouse.query<{ i: string; o: string; k: EdgeKind; t: boolean; at: string; e: string }>(
          `SELECT toString(id) AS i, toString(other) AS o, kind AS k, is_trusted AS t, time_us AS at, toString(event_id) AS e
           FROM identity_edges WHERE own_person_id IN {ids:Array(UUID)}
           ORDER BY time_us, e
           LIMIT {max:UInt32} BY own_person_id, multiIf(kind = 'merge' OR (kind = 'alias' AND is_trusted), 0, own_person_id = other, 1, 2)`,
          { params: { ids: some, max: edgesPerIdMax }, signal },
        ),
      );
      return rows.map(
        ({ i, o, k, t, at, e }): Edge => ({
          ...{ kind: k, id: i, other: nameOf(o), trusted: t, timeUs: Number(at), eventId: e },
        }),
      );
    },
    async relativesOf(ids) {
      const rows = await byChunks(ids, (some) =>
        warehouse.query<{ i: string }>(
          `SELECT toString(own_person_id) AS i FROM person_overrides FINAL
           WHERE person_id IN (SELECT person_id FROM person_overrides FINAL WHERE own_person_id IN {ids:Array(UUID)})
           LIMIT {max:UInt32}`,
          { params: { ids: some, max: RELATIVES_MAX }, signal },
        ),
      );
      return rows.map(({ i }) => i);
    },
    async frozenOf(ids) {
      const rows = await byChunks(ids, (some) =>
        warehouse.query<{ i: string; p: string }>(
          `SELECT toString(own_person_id) AS i, toString(person_id) AS p FROM person_overrides FINAL
           WHERE own_person_id IN {ids:Array(UUID)} AND version = {frozen:UInt64}`,
          { params: { ids: some, frozen: FROZEN_VERSION }, signal },
        ),
      );
      return new Map(rows.map(({ i, p }) => [i, p]));
    },
    write(people, version) {
      const rows = [...people].map(([id, person]) => [id, person, version]);
      return insert("person_overrides", ["own_person_id", "person_id", "version"], rows);
    },
    async progress({ epoch, topic, partition }) {
      const rows = await warehouse.query<{ n: string }>(
        `SELECT max(next_offset) AS n FROM identity_progress WHERE ${OF_PARTITION}`,
        { params: { epoch, topic, partition }, signal },
      );
      return Number(rows[0]?.n ?? 0);
    },
    async logged({ epoch, topic, partition }, from, max) {
      const rows = await warehouse.query<{ i: string; o: string; at: string }>(
        `SELECT toString(id) AS i, toString(other) AS o, log_offset AS at FROM identity_edges
         WHERE ${OF_PARTITION} AND log_offset >= {from:UInt64} AND own_person_id = id
         ORDER BY log_offset LIMIT {max:UInt32}`,
        { params: { epoch, topic, partition, from, max }, signal },
      );
      return rows.map(({ i, o, at }) => ({ ids: [i, nameOf(o)] as const, offset: Number(at) }));
    },
    async epochs({ topic, partition }) {
      const rows = await warehouse.query<{ e: string }>(
        `SELECT DISTINCT log_epoch AS e FROM identity_edges
         WHERE log_topic = {topic:String} AND log_partition = {partition:UInt32} ORDER BY e`,
        { params: { topic, partition }, signal },
      );
      return rows.map(({ e }) => e);
    },
    moveTo(positions) {
      const rows = positions.map(([{ epoch, topic, partition }, next]) => [epoch, topic, partition, next]);
      return insert("identity_progress", ["log_epoch", "log_topic", "log_partition", "next_offset"], rows);
    },
  };
}
