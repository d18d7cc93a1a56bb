// The warehouse over ClickHouse's HTTP interface; the only importer of @clickhouse/client.
import { addAbortSignal, Readable } from "node:stream";
import { ClickHouseError, type ClickHouseSettings, createClient } from "@clickhouse/client";
import { withSpan } from "#lib/process/telemetry.ts";
import { type ClusterOptions, createClusterWarehouse } from "./cluster/cluster.ts";
import { type InsertOptions, type QueryOptions, type Warehouse, WarehouseError } from "./warehouse.ts";
import { classify, type Operation } from "./warehouse-errors.ts";

export interface ClickHouseOptions {
  url: string;
  /** PEM of the certificates to trust, for https. Default: the public authorities. */
  ca?: Buffer | undefined;
  user: string;
  password: string;
  database: string;
  /** Sent with every request. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Bound on one insert or command, milliseconds; a query has its maxSeconds and a grace period. Default 60,000. */
  requestTimeoutMs?: number | undefined;
  /** `url` is then one of its nodes. */
  cluster?: ClusterOptions | undefined;
}

const REQUEST_TIMEOUT_MS = 60_000;
const QUERY_SECONDS = 60;
const QUERY_GRACE_MS = 5_000;
const PING_TIMEOUT_MS = 5_000;
const CONNECTIONS_MAX = 16;
/** ClickHouseLogLevel.OFF: errors reach the caller, who decides what is logged. */
const LOG_OFF = 127;

// One insert must be one block, or its token does not cover it: a replay would then be taken twice.
const INSERT_SETTINGS: ClickHouseSettings = {
  async_insert: 0,
  insert_deduplicate: 1,
  deduplicate_blocks_in_dependent_materialized_views: 1,
  input_format_parallel_parsing: 0,
  max_insert_threads: "1",
  max_insert_block_size: "1048576",
  // Timestamps are written as ISO 8601; a raw JSON object in a String column is kept as the text it is.
  date_time_input_format: "best_effort",
  input_format_json_read_objects_as_strings: 1,
  input_format_json_read_arrays_as_strings: 1,
  input_format_json_read_numbers_as_strings: 1,
  // Without this, an exception after the first byte would arrive under status 200.
  wait_end_of_query: 1,
};

/** The same, on servers that have them: each overrides one of the above, and a profile may set it. */
const NEWER_INSERT_SETTINGS: Readonly<Record<string, string>> = {
  deduplicate_insert: "enable",
  max_insert_block_size_bytes: "0",
  input_format_max_block_size_bytes: "0",
  use_strict_insert_block_limits: "0",
};
const UNKNOWN_SETTING = 115;

const READ_SETTINGS: ClickHouseSettings = { output_format_json_quote_64bit_integers: 1, wait_end_of_query: 1 };
/** One address may stand for many servers: ClickHouse Cloud then reads what any of them wrote. One server knows no other. */
const ONE_ADDRESS_READS: ClickHouseSettings = { select_sequential_consistency: "1" };
/** What is acknowledged survives the loss of a replica. Parallel: partitions share tables, and must not wait in line. */
const CLUSTER_WRITES: ClickHouseSettings = {
  insert_quorum: "auto",
  insert_quorum_parallel: 1,
  // Milliseconds, less than a request may take: ClickHouse's answer says more than our timeout.
  insert_quorum_timeout: 30_000,
};

/** Nothing is sent until the first call. Methods reject with WarehouseError, or with the reason of a fired signal. */
export function createClickHouseWarehouse(options: ClickHouseOptions): Warehouse {
  const { cluster } = options;
  if (!cluster) return createServerWarehouse(options);
  return createClusterWarehouse(cluster, options, (url, database) =>
    createServerWarehouse({ ...options, url, database }),
  );
}

function createServerWarehouse(options: ClickHouseOptions): Warehouse {
  const writes = options.cluster ? CLUSTER_WRITES : {};
  const reads = options.cluster ? READ_SETTINGS : { ...READ_SETTINGS, ...ONE_ADDRESS_READS };
  const requestTimeoutMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
  const client = createClient({
    url: options.url,
    ...(options.ca && { tls: { ca_cert: options.ca } }),
    username: options.user,
    password: options.password,
    database: options.database,
    ...(options.headers && { http_headers: options.headers }),
    application: "millrace",
    max_open_connections: CONNECTIONS_MAX,
    // Timeouts are kept per call below; the client's own one would end a query that its caller gave more time.
    request_timeout: 2 ** 31 - 1,
    // What stands between may refuse a long request line; parameters beyond 4 KB go into the body.
    use_multipart_params_auto: true,
    log: { level: LOG_OFF },
  });

  const { hostname, port } = new URL(options.url);
  const address = {
    "db.system.name": "clickhouse",
    "db.namespace": options.database,
    "server.address": hostname,
    ...(port === "" ? {} : { "server.port": Number(port) }),
  };

  async function call<T>(
    operation: Operation,
    timeoutMs: number,
    signal: AbortSignal | undefined,
    send: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    const timeout = AbortSignal.timeout(timeoutMs);
    const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    try {
      return await raceAbort(send(either), either);
    } catch (error) {
      signal?.throwIfAborted();
      if (timeout.aborted) {
        const text = `ClickHouse did not finish the ${operation} in ${timeoutMs} ms`;
        throw new WarehouseError(text, "transient", undefined, { isTimeout: true });
      }
      throw warehouseError(operation, error);
    }
  }

  /** Those that this server did not say it does not know. */
  const newerSettings = { ...NEWER_INSERT_SETTINGS };

  /** The name is taken out; false: the refusal has another reason. Nothing was stored by it. */
  function isUnknownToServer(error: unknown): boolean {
    if (!(error instanceof WarehouseError) || error.code !== UNKNOWN_SETTING) return false;
    const text = error.cause instanceof Error ? error.cause.message : "";
    const name = Object.keys(newerSettings).find((each) => new RegExp(`\\b${each}\\b`).test(text));
    return name !== undefined && delete newerSettings[name];
  }

  return {
    database: options.database,
    query<Row>(sql: string, { params, signal, maxSeconds = QUERY_SECONDS }: QueryOptions = {}): Promise<Row[]> {
      return call("query", maxSeconds * 1000 + QUERY_GRACE_MS, signal, async (abort_signal) => {
        const result = await client.query({
          query: sql,
          format: "JSONEachRow",
          abort_signal,
          clickhouse_settings: { ...reads, max_execution_time: maxSeconds },
          ...(params === undefined ? {} : { query_params: params }),
        });
        const close = () => result.close();
        abort_signal.addEventListener("abort", close, { once: true });
        try {
          return await result.json<Row>();
        } finally {
          abort_signal.removeEventListener("abort", close);
        }
      });
    },
    readBinary(sql: string, take: (piece: Buffer) => void, options: QueryOptions = {}): Promise<void> {
      const { params, signal, maxSeconds = QUERY_SECONDS } = options;
      return call("query", maxSeconds * 1000 + QUERY_GRACE_MS, signal, async (abort_signal) => {
        const { stream } = await client.exec({
          query: `${sql} FORMAT RowBinary`,
          abort_signal,
          clickhouse_settings: { ...reads, max_execution_time: maxSeconds },
          ...(params === undefined ? {} : { query_params: params }),
        });
        for await (const piece of addAbortSignal(abort_signal, stream)) take(piece as Buffer);
      });
    },
    command(sql: string, { params, signal, maxSeconds }: QueryOptions = {}): Promise<void> {
      const timeoutMs = maxSeconds === undefined ? requestTimeoutMs : maxSeconds * 1000 + QUERY_GRACE_MS;
      return call("command", timeoutMs, signal, async (abort_signal) => {
        await client.command({
          query: sql,
          abort_signal,
          clickhouse_settings: {
            wait_end_of_query: 1,
            ...writes,
            ...(maxSeconds === undefined ? {} : { max_execution_time: maxSeconds }),
          },
          ...(params === undefined ? {} : { query_params: params }),
        });
      });
    },
    insert({ table, columns, rows, token, signal }: InsertOptions): Promise<void> {
      const names = columns.map(quoteName).join(", ");
      const attributes = { ...address, "db.collection.name": table, "db.operation.name": "INSERT" };
      const send = async (abort_signal: AbortSignal) => {
        // exec, not insert: the client's insert would encode rows that already are bytes once more.
        const { stream } = await client.exec({
          query: `INSERT INTO ${quoteName(table)} (${names}) FORMAT JSONCompactEachRow`,
          values: Readable.from([rows], { objectMode: false }),
          abort_signal,
          clickhouse_settings: { ...INSERT_SETTINGS, ...newerSettings, ...writes, insert_deduplication_token: token },
        });
        const body = await readText(stream);
        // An insert answers with nothing; a proxy or an older server may still put an exception under status 200.
        if (body.trim() !== "") throw new Error(body.slice(0, 2_000));
      };
      return withSpan(`INSERT ${table}`, { kind: "client", attributes }, async (span) => {
        try {
          for (;;) {
            try {
              return await call("insert", requestTimeoutMs, signal, send);
            } catch (error) {
              if (!isUnknownToServer(error)) throw error;
            }
          }
        } catch (error) {
          const code = error instanceof WarehouseError ? error.code : undefined;
          if (code !== undefined) span.setAttribute("db.response.status_code", String(code));
          throw error;
        }
      });
    },
    ping(signal?: AbortSignal): Promise<void> {
      return call("ping", PING_TIMEOUT_MS, signal, async (abort_signal) => {
        // A SELECT rather than /ping: it also tells a wrong password and a missing database.
        await client.command({ query: "SELECT 1", abort_signal });
      });
    },
    [Symbol.asyncDispose]: () => client.close(),
  };
}

function warehouseError(operation: Operation, error: unknown): WarehouseError {
  const message = error instanceof Error ? error.message : String(error);
  const code =
    error instanceof ClickHouseError ? Number(error.code) : Number(/^Code: (\d+)\. /.exec(message)?.[1] ?? Number.NaN);
  if (Number.isNaN(code)) {
    const system = (error as NodeJS.ErrnoException).code;
    if (system !== undefined) {
      return new WarehouseError(`ClickHouse ${operation} failed (${system})`, "transient", undefined, { cause: error });
    }
    const text = `ClickHouse ${operation} failed: the answer is not ClickHouse's (no exception code)`;
    return new WarehouseError(text, "transient", undefined, { cause: error, isForeign: true });
  }
  const kind = classify(operation, code, message);
  return new WarehouseError(`ClickHouse refused the ${operation} with code ${code}`, kind, code, { cause: error });
}

/** The client stops listening to its signal once the head of the response is there; this does not. */
function raceAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
    if (signal.aborted) onAbort();
  });
}

async function readText(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString("utf8");
}

/** Table and column names come from code; the check turns a slip into an error instead of SQL. */
function quoteName(name: string): string {
  if (!/^\w+$/.test(name)) throw new TypeError(`not a table or column name: ${name}`);
  return `\`${name}\``;
}
