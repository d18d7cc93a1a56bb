// Runs statements on chdb. Each request gets a Session of its own, opened for it and closed after it (about 1.5 ms), so no
// setting, parameter, database or temporary table of one request is ever seen by another. Reads and writes queue apart: a
// session runs on a thread of libuv's pool, and slow SELECTs must not take the threads that inserts need.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import type { Session } from "chdb";
import { createSlots, type Slots } from "#lib/process/waiting.ts";
import { MAX_EXECUTION_SECONDS } from "./access.ts";
import { createBoundary } from "./boundary.ts";
import { insertCounted } from "./counted-insert.ts";
import { endpointError, engineError } from "./errors.ts";
import { assertRoom, watchWrites } from "./lost-writes.ts";
import { insertRows } from "./rows.ts";
import { isRead, type Statement } from "./statement.ts";
import { type Deliver, isStreamed, streamResult } from "./streamed-result.ts";

interface StatementRequest {
  statement: Statement;
  database: string | undefined;
  /** Output format when the SQL names none. */
  format: string;
  settings: ReadonlyMap<string, string>;
  /** Values of {name:Type}, escaped as ClickHouse's HTTP interface has them. */
  params: ReadonlyMap<string, string>;
  readOnly: boolean;
  /** For a long result, where its format allows. Absent: the result is made in memory and handed back. */
  deliver?: Deliver | undefined;
  /** Fires when the caller went away: a read is then stopped, a write is not. */
  signal: AbortSignal;
}

export interface StatementResult {
  /** Empty when the result was delivered. */
  bytes: Uint8Array;
  resultRows: number;
  resultBytes: number;
  writtenRows: number;
  writtenBytes: number;
  elapsedSeconds: number;
}

export interface Engine {
  run(request: StatementRequest): Promise<StatementResult>;
  /** Takes no more statements, stops reads, waits up to `graceMs` for writes. */
  close(graceMs: number): Promise<void>;
}

export const READ_SLOTS = 8;
export const WRITE_SLOTS = 4;
const QUEUE_LENGTH_MAX = 200;
const QUEUE_WAIT_MS_MAX = 30_000;
const DEFAULT_READ_SECONDS = 60;
const KILL_INTERVAL_MS = 200;

interface EngineOptions {
  /** The data directory. */
  path: string;
  connectionArgs: readonly string[];
  /** Has to end the process: what is on disk is not what the engine believes, and its next start puts that aside. */
  onLostWrite(): void;
}

/** Opens the data directory. Throws what chdb throws when it cannot. */
export async function createEngine({ path, connectionArgs, onLostWrite }: EngineOptions): Promise<Engine> {
  // chdb is optional and CommonJS; loading it here keeps its 500 MB out of every other process.
  const chdb: typeof import("chdb") = createRequire(import.meta.url)("chdb");
  const open = () => new chdb.Session(path, { connectionArgs });
  // One session stays open, so that the engine does not shut down between two requests. It also stops queries.
  const keeper = open();
  const ask = (sql: string) => keeper.queryAsync(sql, { format: "JSON" });
  const boundary = await createBoundary(ask);
  const lanes = { read: createLane(READ_SLOTS), write: createLane(WRITE_SLOTS) };
  const running = new Set<Promise<unknown>>();
  const closing = new AbortController();
  const writes = watchWrites({ ask: (sql) => tracked(ask(sql)), onLost: onLostWrite, signal: closing.signal });

  async function run(request: StatementRequest): Promise<StatementResult> {
    if (closing.signal.aborted) throw endpointError(210, "The engine is shutting down. Try again shortly.");
    await boundary.assertAllowed(request.statement, request.params);
    assertRoom(request.statement, path);
    const read = isRead(request.statement);
    const release = await (read ? lanes.read : lanes.write).take(request.signal);
    const session = open();
    try {
      const id = randomUUID();
      await prepare(session, request, id, read);
      const stop = read ? killWhenAbandoned(keeper, AbortSignal.any([request.signal, closing.signal]), id) : undefined;
      try {
        return await execute(session, request);
      } finally {
        stop?.();
        if (!read) await writes.assertNoneLost();
        await boundary.assertStorages(request.statement);
      }
    } catch (error) {
      throw engineError(error);
    } finally {
      session.close();
      release();
    }
  }

  function tracked<T>(promise: Promise<T>): Promise<T> {
    const settled = promise.catch(() => undefined).finally(() => running.delete(settled));
    running.add(settled);
    return promise;
  }

  return {
    run: (request) => tracked(run(request)),
    async close(graceMs) {
      closing.abort();
      await Promise.race([Promise.all(running), new Promise((resolve) => setTimeout(resolve, graceMs).unref())]);
      if (running.size === 0) keeper.close();
    },
  };
}

async function prepare(session: Session, request: StatementRequest, id: string, read: boolean): Promise<void> {
  if (request.database) await session.queryAsync(`USE \`${request.database.replace(/[`\\]/g, "\\$&")}\``);
  // An engine-side name of the query: ClickHouse's query ids cannot be set through chdb.
  const settings = new Map([
    ["max_execution_time", String(read ? DEFAULT_READ_SECONDS : MAX_EXECUTION_SECONDS)],
    ...request.settings,
    ["log_comment", id],
  ]);
  const assignments = [...settings].map(([name, value]) => `${settingName(name)} = ${literal(value)}`);
  for (const [name, value] of request.params) assignments.push(`param_${settingName(name)} = ${literal(value)}`);
  await session.queryAsync(`SET ${assignments.join(", ")}`);
  if (request.statement.target?.settings) await session.queryAsync(`SET ${request.statement.target.settings}`);
  // Last, since nothing can take it back.
  if (request.readOnly) await session.queryAsync("SET readonly = 2");
}

async function execute(session: Session, request: StatementRequest): Promise<StatementResult> {
  const { statement, format, deliver, signal } = request;
  if (statement.keyword === "INSERT") {
    const { target } = statement;
    const { rows, bytes, seconds } =
      target === undefined
        ? await insertCounted(session, statement.sql)
        : await insertRows(session, target, statement.rows);
    return {
      bytes: new Uint8Array(),
      resultRows: 0,
      resultBytes: 0,
      writtenRows: rows,
      writtenBytes: bytes,
      elapsedSeconds: seconds,
    };
  }
  const written = statement.format ?? format;
  if (deliver && isStreamed(statement, written, request.settings)) {
    const begun = performance.now();
    const streamed = await streamResult(session, { sql: statement.sql, format: written, deliver, signal });
    return { ...streamed, writtenRows: 0, writtenBytes: 0, elapsedSeconds: (performance.now() - begun) / 1000 };
  }
  const result = await session.queryAsync(statement.sql, { format });
  return {
    bytes: result.bytes(),
    resultRows: result.rowsRead,
    resultBytes: result.bytesRead,
    writtenRows: 0,
    writtenBytes: 0,
    elapsedSeconds: result.elapsed,
  };
}

/**
 * chdb cannot interrupt a call, but the engine can kill the query. Repeated until the call has ended, because the caller
 * may leave before the engine has begun; the time limit also ends a query that lifted max_execution_time with DEFAULT.
 */
function killWhenAbandoned(keeper: Session, signal: AbortSignal, id: string): () => void {
  const limit = AbortSignal.timeout((MAX_EXECUTION_SECONDS + 5) * 1000);
  const abandoned = AbortSignal.any([signal, limit]);
  let timer: NodeJS.Timeout | undefined;
  let ended = false;
  const kill = async () => {
    // A failed KILL is tried again below; the query's own time limit stands behind it.
    await keeper.queryAsync(`KILL QUERY WHERE Settings['log_comment'] = '${id}' ASYNC`).catch(() => undefined);
    if (!ended) timer = setTimeout(() => void kill(), KILL_INTERVAL_MS);
  };
  const onAbort = () => void kill();
  if (abandoned.aborted) onAbort();
  else abandoned.addEventListener("abort", onAbort, { once: true });
  return () => {
    ended = true;
    clearTimeout(timer);
    abandoned.removeEventListener("abort", onAbort);
  };
}

function createLane(count: number): Slots {
  return createSlots({ count, waitingMax: QUEUE_LENGTH_MAX, waitMsMax: QUEUE_WAIT_MS_MAX, busy });
}

function busy() {
  return endpointError(202, "Too many simultaneous queries. Try again shortly.");
}

function settingName(name: string): string {
  if (!/^\w{1,128}$/.test(name)) throw endpointError(115, `Unknown setting ${name.slice(0, 128)}.`);
  return name;
}

function literal(value: string): string {
  if (value.includes("\0")) throw endpointError(36, "A setting or parameter holds a NUL character. Escape it as \\0.");
  return `'${value.replace(/[\\']/g, "\\$&")}'`;
}
