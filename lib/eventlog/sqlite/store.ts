// The log as tables, on the log's own thread: every function here blocks. A topic is a table whose rowid is the offset;
// `topics` keeps the next offset, so that it survives a trim of everything.

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { type Commit, LogUnavailableError, OffsetOutOfRangeError, type PartitionBounds } from "../log.ts";
import { packRecords, unpackRecords } from "./frames.ts";
import { asUnavailable, isDiskFull, openFile, type StoreOptions } from "./open.ts";

export type WriteOp =
  | { op: "append"; topic: string; frame: Uint8Array<ArrayBuffer> }
  | { op: "commit"; topic: string; group: string; partition: number; commit: Commit };

export interface ReadRange {
  topic: string;
  partition: number;
  from: number;
  maxRecords: number;
  maxBytes: number;
}

/** All functions throw LogUnavailableError, with the remedy, when SQLite fails. */
export interface Store {
  /**
   * All in one transaction, durable on return. One result per operation: the first offset of an append, zero for a
   * commit, or why this operation alone was left out. Throws when none of them was stored.
   */
  write(ops: readonly WriteOp[]): (number | Error)[];
  /** Undefined: nothing at `from` yet. Throws OffsetOutOfRangeError. */
  read(range: ReadRange): Uint8Array<ArrayBuffer> | undefined;
  bounds(topic: string): PartitionBounds;
  committed(topic: string, group: string): Map<number, Commit>;
  createTopics(topics: readonly string[]): string[];
  /** Deletes a bounded number of records below `before`; true when none is left. */
  trimStep(topic: string, partition: number, before: number): boolean;
  epoch(): string;
  /** Proves with a durable write that an append can succeed. */
  probe(): void;
  close(): void;
}

const TRIM_STEP_RECORDS = 2000;
const PROBE_BYTES_MIN = 64 * 1024;
const PROBE_BYTES_MAX = 4 * 1024 * 1024;
const EMPTY = new Uint8Array(0);

type Row = [
  offset: number,
  appendTimeMs: number,
  key: Uint8Array | null,
  value: Uint8Array | null,
  trace: string | null,
];

interface Topic {
  insert: StatementSync;
  select: StatementSync;
  bounds: StatementSync;
  advance: StatementSync;
  trim: StatementSync;
}

interface Head {
  nextOffset: number;
  lastAppendMs: number;
}

export function createStore(options: StoreOptions): Store {
  const { db, close } = openFile(options);
  const guard = <T>(act: () => T): T => guarded(options.file, act);
  const topics = new Map<string, Topic>();
  const upsertCommit = db.prepare(`INSERT INTO commits (topic, consumer_group, log_partition, next_offset, metadata)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset, metadata = excluded.metadata`);
  let refusedBytes = 0;

  function topicNamed(name: string): Topic {
    const known = topics.get(name);
    if (known) return known;
    const row = db.prepare("SELECT id FROM topics WHERE topic = ?").get(name) as { id: number } | undefined;
    if (!row) throw new LogUnavailableError(`topic ${name} does not exist on the event log: run "millrace migrate"`);
    const topic = prepareTopic(db, row.id);
    topics.set(name, topic);
    return topic;
  }

  function boundsOf(name: string): PartitionBounds {
    const row = topicNamed(name).bounds.get() as unknown as { start: number; end: number };
    return { partition: 0, start: row.start, end: row.end };
  }

  function writeAll(ops: readonly WriteOp[]): (number | Error)[] {
    const heads = new Map<Topic, Head>();
    const results = ops.map((op) => {
      try {
        return topicNamed(op.topic);
      } catch (error) {
        if (error instanceof LogUnavailableError) return error;
        throw error;
      }
    });
    return inTransaction(db, () => {
      const done = ops.map((op, index) => {
        const topic = results[index] as Topic | Error;
        if (topic instanceof Error) return topic;
        if (op.op === "append") return insertRecords(topic, heads, op.frame);
        upsertCommit.run(op.topic, op.group, op.partition, op.commit.offset, op.commit.metadata);
        return 0;
      });
      for (const [topic, head] of heads) topic.advance.run(head.nextOffset, head.lastAppendMs);
      return done;
    });
  }

  return {
    write(ops) {
      try {
        const results = writeAll(ops);
        refusedBytes = 0;
        return results;
      } catch (error) {
        if (isDiskFull(error)) {
          refusedBytes = ops.reduce((sum, op) => sum + (op.op === "append" ? op.frame.byteLength : 0), 0);
          tidyWal(db);
        }
        throw asUnavailable(error, options.file);
      }
    },
    read: (range) => guard(() => readRows(topicNamed(range.topic), range, () => boundsOf(range.topic))),
    bounds: (topic) => guard(() => boundsOf(topic)),
    committed: (topic, group) => guard(() => readCommits(db, topic, group)),
    createTopics: (names) => guard(() => inTransaction(db, () => names.filter((name) => createTopic(db, name)))),
    trimStep: (topic, partition, before) =>
      guard(() => {
        if (partition !== 0) throw noSuchPartition(topic, partition);
        const bounds = boundsOf(topic);
        if (before > bounds.end) throw outOfRange(topic, before, bounds);
        const upTo = Math.min(before, bounds.start + TRIM_STEP_RECORDS);
        if (upTo > bounds.start) topicNamed(topic).trim.run(upTo);
        return upTo >= before;
      }),
    epoch: () =>
      guard(() => (db.prepare("SELECT value FROM meta WHERE name = 'epoch'").get() as { value: string }).value),
    // As large as what was last refused, so that readiness does not flap while only small appends still fit.
    probe: () =>
      guard(() => {
        const bytes = Math.min(Math.max(refusedBytes, PROBE_BYTES_MIN), PROBE_BYTES_MAX);
        db.prepare("INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(?))").run(bytes);
        refusedBytes = 0;
      }),
    close() {
      if (!options.readOnly) tidyWal(db);
      close();
    },
  };
}

function guarded<T>(file: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw error instanceof OffsetOutOfRangeError ? error : asUnavailable(error, file);
  }
}

function inTransaction<T>(db: DatabaseSync, act: () => T): T {
  db.exec("BEGIN IMMEDIATE");
  try {
    const result = act();
    db.exec("COMMIT");
    return result;
  } catch (error) {
    // SQLite has rolled back by itself after some errors (a full disk is one).
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

/** Moves the WAL into the file, which may have free pages, so that the WAL can start over instead of growing. */
function tidyWal(db: DatabaseSync): void {
  try {
    // PASSIVE never waits for a reader in another process.
    db.exec("PRAGMA wal_checkpoint(PASSIVE)");
  } catch {
    // What stays in the WAL is as durable there, and is found when the file is opened again. A full disk gets here
    // first, and every append is refused with that reason.
  }
}

function prepareTopic(db: DatabaseSync, id: number): Topic {
  const table = `records_${id}`;
  const select = db.prepare(
    `SELECT log_offset, append_ms, key, value, traceparent FROM ${table} WHERE log_offset >= ? ORDER BY log_offset LIMIT ?`,
  );
  select.setReturnArrays(true);
  return {
    select,
    insert: db.prepare(`INSERT INTO ${table} (log_offset, append_ms, key, value, traceparent) VALUES (?, ?, ?, ?, ?)`),
    bounds: db.prepare(`SELECT coalesce((SELECT min(log_offset) FROM ${table}), next_offset) AS start,
      next_offset AS end, last_append_ms AS lastAppendMs FROM topics WHERE id = ${id}`),
    advance: db.prepare(`UPDATE topics SET next_offset = ?, last_append_ms = ? WHERE id = ${id}`),
    trim: db.prepare(`DELETE FROM ${table} WHERE log_offset < ?`),
  };
}

/** True when the topic is new. */
function createTopic(db: DatabaseSync, name: string): boolean {
  const { changes, lastInsertRowid } = db
    .prepare("INSERT OR IGNORE INTO topics (topic, next_offset, last_append_ms) VALUES (?, 0, 0)")
    .run(name);
  if (changes === 0) return false;
  // Empty keys and values are bound as NULL by node:sqlite, hence no NOT NULL.
  db.exec(`CREATE TABLE records_${lastInsertRowid} (
    log_offset INTEGER PRIMARY KEY, append_ms INTEGER NOT NULL, key BLOB, value BLOB, traceparent TEXT) STRICT`);
  return true;
}

function insertRecords(topic: Topic, heads: Map<Topic, Head>, frame: Uint8Array<ArrayBuffer>): number {
  let head = heads.get(topic);
  if (!head) {
    const row = topic.bounds.get() as unknown as { end: number; lastAppendMs: number };
    // A clock set back must not make a later record look older: windows over the log are differences of these times.
    head = { nextOffset: row.end, lastAppendMs: Math.max(Date.now(), row.lastAppendMs) };
    heads.set(topic, head);
  }
  const first = head.nextOffset;
  for (const record of unpackRecords(frame, first)) {
    topic.insert.run(record.offset, head.lastAppendMs, record.key, record.value, record.traceparent ?? null);
    head.nextOffset = record.offset + 1;
  }
  return first;
}

function readRows(topic: Topic, range: ReadRange, bounds: () => PartitionBounds): Uint8Array<ArrayBuffer> | undefined {
  if (range.partition !== 0) throw noSuchPartition(range.topic, range.partition);
  const rows: { appendTimeMs: number; key: Uint8Array; value: Uint8Array; traceparent: string | undefined }[] = [];
  let bytes = 0;
  for (const row of topic.select.iterate(range.from, range.maxRecords)) {
    const [offset, appendTimeMs, key, value, trace] = row as unknown as Row;
    if (rows.length === 0 && offset !== range.from) break;
    bytes += (key?.byteLength ?? 0) + (value?.byteLength ?? 0);
    if (rows.length > 0 && bytes > range.maxBytes) break;
    rows.push({ appendTimeMs, key: key ?? EMPTY, value: value ?? EMPTY, traceparent: trace ?? undefined });
  }
  if (rows.length > 0) return packRecords(rows);
  const now = bounds();
  if (range.from < now.start || range.from > now.end) throw outOfRange(range.topic, range.from, now);
  return undefined;
}

function readCommits(db: DatabaseSync, topic: string, group: string): Map<number, Commit> {
  const rows = db
    .prepare("SELECT log_partition, next_offset, metadata FROM commits WHERE topic = ? AND consumer_group = ?")
    .all(topic, group) as { log_partition: number; next_offset: number; metadata: string }[];
  return new Map(rows.map((row) => [row.log_partition, { offset: row.next_offset, metadata: row.metadata }]));
}

function outOfRange(topic: string, wanted: number, { partition, start, end }: PartitionBounds): OffsetOutOfRangeError {
  return new OffsetOutOfRangeError(
    `offset ${wanted} of topic ${topic}, partition ${partition} is not on the event log: it has ${start} up to ${end} (exclusive)`,
  );
}

function noSuchPartition(topic: string, partition: number): LogUnavailableError {
  return new LogUnavailableError(
    `topic ${topic} has no partition ${partition}: the SQLite log has partition 0 only; set KAFKA_BROKERS to use more`,
  );
}
