// ClickHouse as the services see it. One adapter, clickhouse.ts, over HTTP: production, tests and standalone alike.

export interface InsertOptions {
  /** Table name without database. */
  table: string;
  /** Columns in the order in which each row lists its values. */
  columns: readonly string[];
  /** JSONCompactEachRow: one JSON array a row, each followed by "\n". At most 8 MB, so that it stays one block. */
  rows: Uint8Array;
  /** Deduplication token: a second insert with the same token into the same table adds nothing. */
  token: string;
  signal?: AbortSignal | undefined;
}

export interface QueryOptions {
  /** Bound as {name:Type} in the SQL; the only way in which values reach SQL. */
  params?: Record<string, unknown> | undefined;
  signal?: AbortSignal | undefined;
  /** Server-side limit, seconds. Default 60. */
  maxSeconds?: number | undefined;
}

export interface Warehouse extends AsyncDisposable {
  /** Database that unqualified table names resolve to. */
  readonly database: string;
  /** Rows of a SELECT; 64-bit integers arrive as strings, so select toFloat64/toString deliberately or use Number(). */
  query<Row>(sql: string, options?: QueryOptions): Promise<Row[]>;
  /**
   * The same in ClickHouse's RowBinary, piece by piece, for answers of very many rows. What it rejects with may come after
   * some of the pieces.
   */
  readBinary(sql: string, take: (piece: Buffer) => void, options?: QueryOptions): Promise<void>;
  /** A statement without result. */
  command(sql: string, options?: QueryOptions): Promise<void>;
  /** Resolves when the rows, or an earlier insert under the same token, are stored as one block. */
  insert(options: InsertOptions): Promise<void>;
  /** Rejects with a WarehouseError that says why ClickHouse cannot be used right now. */
  ping(signal?: AbortSignal): Promise<void>;
  /** Of a warehouse that is cut by partition of the log; undefined when everything is in one place. */
  readonly cluster?: Cluster | undefined;
}

export interface Cluster {
  /** As ClickHouse's configuration has it. */
  name: string;
  /** Each has the rows, outcomes, dead letters and roll-up of its partitions, and nothing else (placement.ts). */
  shards: readonly Warehouse[];
}

/** Where rows of the partition are stored and looked for. */
export function warehouseOf(warehouse: Warehouse, partition: number): Warehouse {
  const shards = shardsOf(warehouse);
  return shards[partition % shards.length] as Warehouse;
}

/** All the places in which rows can be. */
export function shardsOf(warehouse: Warehouse): readonly Warehouse[] {
  return warehouse.cluster?.shards ?? [warehouse];
}

/**
 * transient: ClickHouse is away, busy or full; the same call may succeed later (network, timeouts, TOO_MANY_PARTS, memory,
 *            read-only, authentication: somebody can repair it without touching the data).
 * rejected:  ClickHouse understood and will never take these rows; nothing of the insert was stored.
 * too_many_partitions: the insert touches more partitions than one insert may; split it.
 */
export type WarehouseErrorKind = "transient" | "rejected" | "too_many_partitions";

interface WarehouseErrorOptions extends ErrorOptions {
  isForeign?: boolean;
  isTimeout?: boolean;
}

export class WarehouseError extends Error {
  override readonly name = "WarehouseError";
  readonly kind: WarehouseErrorKind;
  /** ClickHouse's exception code, when it answered with one. */
  readonly code: number | undefined;
  /** There was an answer, and it was not ClickHouse's: of a proxy or load balancer, say. */
  readonly isForeign: boolean;
  /** No answer came in the time that it was given. */
  readonly isTimeout: boolean;

  constructor(
    message: string,
    kind: WarehouseErrorKind,
    code?: number,
    { isForeign = false, isTimeout = false, ...options }: WarehouseErrorOptions = {},
  ) {
    super(message, options);
    this.kind = kind;
    this.code = code;
    this.isForeign = isForeign;
    this.isTimeout = isTimeout;
  }
}
