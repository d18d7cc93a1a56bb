// Tombstones of erased persons (migrations/0003_erasure.sql): which ids, and up to which offset of the log.
import { randomUUID } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { EventRecordSchema } from "#gen/millrace/log/v1/log_pb.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { decodeRecord, PoisonRecordError } from "#lib/events/record.ts";
import type { RowOrigin } from "#lib/events/row.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface Erasure {
  /** UUID text; what `log_outcomes.detail` says of an erased offset. */
  id: string;
  personId: string;
  /** Own person ids of the person's distinct ids. */
  ownIds: string[];
  /** Milliseconds since 1970. */
  requestedAtMs: number;
  epoch: string;
  topic: string;
  /** Offset after the last record that is erased, by partition. */
  ends: ReadonlyMap<number, number>;
  /** Epochs of the topic before this one, of which everything is erased. */
  olderEpochs: string[];
  /** First offset whose edges were not resolved when the erasure was asked for, by partition. */
  resolved: ReadonlyMap<number, number>;
  /** Rows of identity_edges that are deleted, or more. */
  edges: number;
  /** Milliseconds since 1970; undefined while something may be left. */
  finishedAtMs: number | undefined;
}

/** Methods reject with WarehouseError. */
export interface Erasures {
  /** The newest that names this own person id. */
  newestOf(ownId: string): Promise<Erasure | undefined>;
  /** Those that reach beyond `offset` of the partition, the oldest first. */
  beyond(origin: RowOrigin, offset: number): Promise<Erasure[]>;
  /** Replaces what was saved of it before. */
  save(erasure: Erasure): Promise<void>;
}

const COLUMNS = [
  ...["erasure_id", "person_id", "own_person_ids", "requested_at", "log_epoch", "log_topic", "ends", "older_epochs"],
  ...["resolved", "edges", "finished_at", "version"],
];

interface Row {
  id: string;
  person: string;
  ids: string[];
  requested: string;
  epoch: string;
  topic: string;
  ends: Record<string, string>;
  older: string[];
  resolved: Record<string, string>;
  edges: string;
  finished: string | null;
}

export function createErasures(warehouse: Warehouse): Erasures {
  async function read(where: string, params: Record<string, unknown>): Promise<Erasure[]> {
    const rows = await warehouse.query<Row>(
      `SELECT toString(erasure_id) AS id, toString(person_id) AS person, own_person_ids AS ids,
              toUnixTimestamp64Milli(requested_at) AS requested, log_epoch AS epoch, log_topic AS topic, ends,
              older_epochs AS older, resolved, edges, toUnixTimestamp64Milli(finished_at) AS finished
       FROM erasures FINAL WHERE ${where} ORDER BY requested_at, erasure_id`,
      { params },
    );
    return rows.map(erasureOf);
  }

  return {
    async newestOf(ownId) {
      return (await read("has(own_person_ids, {ownId:UUID})", { ownId })).at(-1);
    },
    beyond({ epoch, topic, partition }, offset) {
      const where =
        "log_epoch = {epoch:String} AND log_topic = {topic:String} AND ends[{partition:UInt32}] > {offset:UInt64}";
      return read(where, { epoch, topic, partition, offset });
    },
    async save(erasure) {
      const { id, personId, ownIds, requestedAtMs, epoch, topic, ends, olderEpochs, resolved, edges } = erasure;
      const [last] = await warehouse.query<{ version: string }>(
        "SELECT max(version) AS version FROM erasures WHERE erasure_id = {id:UUID}",
        { params: { id } },
      );
      const row = [
        ...[id, personId, ownIds, isoText(requestedAtMs), epoch, topic, Object.fromEntries(ends), olderEpochs],
        ...[
          Object.fromEntries(resolved),
          edges,
          erasure.finishedAtMs === undefined ? null : isoText(erasure.finishedAtMs),
        ],
        Number(last?.version ?? 0) + 1,
      ];
      const rows = Buffer.from(`${JSON.stringify(row)}\n`);
      await warehouse.insert({ table: "erasures", columns: COLUMNS, rows, token: randomUUID() });
    },
  };
}

/**
 * Own person id of whom a record speaks; undefined when it is nobody. Of bytes that are no event, what can be read of the
 * distinct id tells, and otherwise the routing key, which mostly is one.
 */
export function ownerOf({ key, value }: { key: Uint8Array; value: Uint8Array }): string | undefined {
  const owner = distinctIdOf(value) ?? Buffer.from(key).toString("utf8");
  return owner === "" ? undefined : personIdOf(owner);
}

function distinctIdOf(value: Uint8Array): string | undefined {
  try {
    return decodeRecord(value).distinctId;
  } catch (error) {
    if (!(error instanceof PoisonRecordError)) throw error;
  }
  try {
    return fromBinary(EventRecordSchema, value).distinctId || undefined;
  } catch {
    // Bytes of whatever kind.
    return undefined;
  }
}

function erasureOf(row: Row): Erasure {
  return {
    ...{ id: row.id, personId: row.person, ownIds: row.ids, requestedAtMs: Number(row.requested) },
    ...{ epoch: row.epoch, topic: row.topic, ends: offsetsOf(row.ends), olderEpochs: row.older },
    ...{ resolved: offsetsOf(row.resolved), edges: Number(row.edges) },
    finishedAtMs: row.finished === null ? undefined : Number(row.finished),
  };
}

function offsetsOf(map: Record<string, string>): Map<number, number> {
  return new Map(Object.entries(map).map(([partition, offset]) => [Number(partition), Number(offset)]));
}

function isoText(ms: number): string {
  return new Date(ms).toISOString();
}
