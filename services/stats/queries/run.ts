// Runs the stats queries: so many at once, each within limits of time, memory and rows.
import { createSlots } from "#lib/process/waiting.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { describeFailure, StatsQueryError } from "./errors.ts";

const QUERY_SECONDS_MAX = 10;
const MEMORY_BYTES_MAX = 1_000_000_000;
const ROWS_READ_MAX = 500_000_000;
const RESULT_ROWS_MAX = 100_000;
const WAITING_MAX = 64;
const WAIT_MS_MAX = 5_000;

/**
 * One thread: these questions are small, and several at once or a consumer's inserts beside them make better use of the
 * others. Rows of one key never lie in two partitions of points_5m, so FINAL need not look across.
 */
const LIMITS = `LIMIT ${RESULT_ROWS_MAX + 1} SETTINGS max_threads = 1, max_memory_usage = ${MEMORY_BYTES_MAX},
  max_rows_to_read = ${ROWS_READ_MAX}, do_not_merge_across_partitions_select_final = 1`;

export interface RunnerOptions {
  warehouse: Pick<Warehouse, "query">;
  /** Queries that run side by side; more of them wait, and too many are refused. */
  maxConcurrent: number;
  onQuery?: ((name: string, seconds: number, outcome: "ok" | "failed" | "refused") => void) | undefined;
}

export interface Query {
  /** For metrics. */
  name: string;
  /** A SELECT that ends before LIMIT. */
  sql: string;
  params: Record<string, unknown>;
  signal?: AbortSignal | undefined;
}

export type RunQuery = <Row>(query: Query) => Promise<Row[]>;

/** Both reject with StatsQueryError, or with the reason of a fired signal. */
export interface Runner {
  query: RunQuery;
  /** Work whose statements have limits of their own, in one turn. */
  turn<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T>;
}

export function createRunner({ warehouse, maxConcurrent, onQuery }: RunnerOptions): Runner {
  const busy = () => new StatsQueryError("busy", "too many queries at once; try again");
  const slots = createSlots({ count: maxConcurrent, waitingMax: WAITING_MAX, waitMsMax: WAIT_MS_MAX, busy });

  async function turn<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const begun = performance.now();
    const report = (outcome: "ok" | "failed" | "refused") =>
      onQuery?.(name, (performance.now() - begun) / 1000, outcome);
    const release = await slots.take(signal).catch((error: unknown) => {
      report("refused");
      throw error;
    });
    try {
      const result = await work();
      report("ok");
      return result;
    } catch (error) {
      report("failed");
      throw (error instanceof WarehouseError && describeFailure(error)) || error;
    } finally {
      release();
    }
  }

  return {
    turn,
    query: <Row>({ name, sql, params, signal }: Query) =>
      turn(name, signal, async () => {
        const rows = await warehouse.query<Row>(`${sql}\n${LIMITS}`, { params, signal, maxSeconds: QUERY_SECONDS_MAX });
        if (rows.length > RESULT_ROWS_MAX) {
          const message = `more than ${RESULT_ROWS_MAX} values: ask for a shorter time, a longer interval or fewer groups`;
          throw new StatsQueryError("too_much", message);
        }
        return rows;
      }),
  };
}
