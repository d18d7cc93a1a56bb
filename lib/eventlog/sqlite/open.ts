// Opening the SQLite log's file: ownership, durability settings, schema, and what each SQLite error means to a person.

import { randomUUID } from "node:crypto";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { LogUnavailableError } from "../log.ts";

export interface StoreOptions {
  /** Path, or ":memory:". */
  file: string;
  readOnly: boolean;
  /** Refuse to grow beyond this many bytes, as a full disk would. */
  maxFileBytes?: number | undefined;
}

export interface OpenFile {
  db: DatabaseSync;
  /** Closes the file and lets the next owner in. */
  close(): void;
}

/** "mlog" in ASCII: tells a Millrace log from any other SQLite file. */
const APPLICATION_ID = 0x6d6c6f67;
const SCHEMA_VERSION = 1;
const PAGE_BYTES = 4096;
const BUSY_TIMEOUT_MS = 5000;
/** Long enough for a predecessor that is just closing, short enough not to look hung. */
const OWNER_TIMEOUT_MS = 1000;

const SCHEMA = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE topics (
  id INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE, next_offset INTEGER NOT NULL, last_append_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE commits (
  topic TEXT NOT NULL, consumer_group TEXT NOT NULL, log_partition INTEGER NOT NULL,
  next_offset INTEGER NOT NULL, metadata TEXT NOT NULL, PRIMARY KEY (topic, consumer_group, log_partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB NOT NULL) STRICT;
PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** Rejects with LogUnavailableError, whose message says what to do. */
export function openFile(options: StoreOptions): OpenFile {
  const { file, readOnly } = options;
  if (readOnly && !existsSync(file)) {
    throw new LogUnavailableError(
      `event log ${file} does not exist: check DATA_DIR; the service that writes the log makes it when it starts`,
    );
  }
  let owner: DatabaseSync | undefined;
  let db: DatabaseSync | undefined;
  try {
    if (!readOnly && file !== ":memory:") {
      mkdirSync(dirname(file), { recursive: true });
      owner = takeOwnership(file);
    }
    const opened = new DatabaseSync(file, { readOnly, timeout: BUSY_TIMEOUT_MS });
    db = opened;
    if (readOnly) checkSchema(opened, file);
    else prepareForWriting(opened, options);
    return {
      db: opened,
      close() {
        opened.close();
        owner?.close();
      },
    };
  } catch (error) {
    db?.close();
    owner?.close();
    throw asUnavailable(error, file);
  }
}

/**
 * An open transaction on a file of its own: the kernel drops the lock with the process, whatever kills it, and readers
 * of the log itself are not in its way.
 */
function takeOwnership(file: string): DatabaseSync {
  const lock = new DatabaseSync(`${file}.lock`, { timeout: OWNER_TIMEOUT_MS });
  try {
    lock.exec("BEGIN EXCLUSIVE");
    return lock;
  } catch (error) {
    lock.close();
    if (primaryCode(error) !== SQLITE_BUSY) throw error;
    throw new LogUnavailableError(
      `event log ${file} is in use by another process: stop that one, or set DATA_DIR to another directory`,
      { cause: error },
    );
  }
}

function prepareForWriting(db: DatabaseSync, { file, maxFileBytes }: StoreOptions): void {
  // FULL: in WAL mode anything less loses acknowledged commits with the power. The WAL is kept at a size where
  // checkpoints are rare under load; journal_size_limit gives the disk back after a burst.
  db.exec(`
    PRAGMA page_size = ${PAGE_BYTES};
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864;
  `);
  if (maxFileBytes !== undefined) db.exec(`PRAGMA max_page_count = ${Math.floor(maxFileBytes / PAGE_BYTES)}`);
  const { tables } = db.prepare("SELECT count(*) AS tables FROM sqlite_schema").get() as { tables: number };
  if (tables > 0) checkSchema(db, file);
  else createSchema(db, file);
}

function createSchema(db: DatabaseSync, file: string): void {
  db.exec("BEGIN IMMEDIATE");
  db.exec(SCHEMA);
  db.prepare("INSERT INTO meta (name, value) VALUES ('epoch', ?)").run(randomUUID());
  db.exec("COMMIT");
  if (file !== ":memory:") syncDirectory(dirname(resolve(file)));
}

function checkSchema(db: DatabaseSync, file: string): void {
  const { application_id } = db.prepare("PRAGMA application_id").get() as { application_id: number };
  const { user_version } = db.prepare("PRAGMA user_version").get() as { user_version: number };
  if (application_id !== APPLICATION_ID) {
    throw new LogUnavailableError(
      `${file} is a SQLite file but no Millrace event log: set DATA_DIR to another directory`,
    );
  }
  if (user_version !== SCHEMA_VERSION) {
    throw new LogUnavailableError(
      `event log ${file} has layout ${user_version}, this version of Millrace knows ${SCHEMA_VERSION}: run the version that wrote it`,
    );
  }
}

/** SQLite syncs the file, not the name of a file it has just made. */
function syncDirectory(directory: string): void {
  const handle = openSync(directory, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

const SQLITE_BUSY = 5;
const SQLITE_READONLY = 8;
const SQLITE_IOERR = 10;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;

function primaryCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error) || typeof error.errcode !== "number") return undefined;
  return error.errcode & 0xff;
}

export function isDiskFull(error: unknown): boolean {
  return primaryCode(error) === SQLITE_FULL;
}

/** The error a caller of the log sees, with what an operator can do. */
export function asUnavailable(error: unknown, file: string): LogUnavailableError {
  if (error instanceof LogUnavailableError) return error;
  const directory = dirname(resolve(file));
  return new LogUnavailableError(`event log ${file} ${diagnosis(primaryCode(error), directory)}`, { cause: error });
}

function diagnosis(code: number | undefined, directory: string): string {
  switch (code) {
    case SQLITE_FULL:
      return `is full: free space on ${directory} or set DATA_DIR to another disk`;
    case SQLITE_IOERR:
      return `cannot be read or written: check the disk under ${directory}, free space on it, or set DATA_DIR to another disk`;
    case SQLITE_READONLY:
      return `cannot be written: make ${directory} and the files in it writable, or set DATA_DIR to another directory`;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return `is damaged: restore ${directory} from a copy, or move it away to start an empty log (events in it that are not in ClickHouse yet are lost then)`;
    case SQLITE_BUSY:
      return "is locked by another program: close whatever else has the file open";
    default:
      return `cannot be used: make ${directory} readable and writable, or set DATA_DIR to another directory`;
  }
}
