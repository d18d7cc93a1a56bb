// Brings a ClickHouse database to the schema in migrations/: files NNNN_name.sql in order, each once, never backwards.
// Safe to run by several processes at once, because every statement in a migration is idempotent (IF NOT EXISTS).
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { BaseLogger } from "#lib/process/log.ts";
import { type ClickHouseOptions, createClickHouseWarehouse } from "./clickhouse.ts";
import type { ClusterOptions } from "./cluster/cluster.ts";
import { clusterDialect } from "./cluster/ddl.ts";
import { shardCountFault, shardOrderFault } from "./cluster/shards.ts";
import { CLOUD, type Dialect, SINGLE_SERVER } from "./ddl.ts";
import { splitStatements } from "./sql.ts";
import { shardsOf, type Warehouse } from "./warehouse.ts";

export interface MigrateOptions {
  connection: Pick<ClickHouseOptions, "url" | "user" | "password" | "ca" | "headers">;
  /** Of which `connection` is a node. */
  cluster?: ClusterOptions | undefined;
  /** Created when missing; stands in for {{DATABASE}} in the files. */
  database: string;
  directory: string;
  logger?: Pick<BaseLogger, "info"> | undefined;
  signal?: AbortSignal | undefined;
}

/** The migrations or what was applied of them are not as they must be; the message says what to do. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

interface Migration {
  filename: string;
  checksum: string;
  /** As it is in the file. */
  text: string;
}

/** What was applied, on every kind of server; itself made as one of the tables is. */
export const SCHEMA_MIGRATIONS = `CREATE TABLE IF NOT EXISTS {{DATABASE}}.schema_migrations
      (filename String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
      ENGINE = ReplacingMergeTree ORDER BY (filename, checksum)`;

const FILENAME = /^\d{4}_[a-z0-9_]+\.sql$/;
/** Adding an index or a column to a large table can take long. */
const STATEMENT_SECONDS_MAX = 600;

/**
 * Applies what is missing and resolves with the filenames it applied. Rejects with MigrationError for an applied file that
 * has changed or is gone, and with WarehouseError when ClickHouse cannot be used; running it again continues.
 */
export async function migrate(options: MigrateOptions): Promise<{ applied: string[] }> {
  const { database, cluster, logger, signal } = options;
  if (!/^[A-Za-z_]\w{0,63}$/.test(database)) {
    throw new MigrationError(
      `"${database}" cannot be a database name. Set CLICKHOUSE_DATABASE to letters, digits and underscores, not starting with a digit.`,
    );
  }
  const migrations = await readMigrations(options.directory);
  // The database may not exist yet, so the connection is to the one that always does.
  const warehouse = createClickHouseWarehouse({ ...options.connection, cluster, database: "default" });
  const own = createClickHouseWarehouse({ ...options.connection, cluster, database });
  try {
    const limits = { signal, maxSeconds: STATEMENT_SECONDS_MAX };
    const dialect = await dialectOf(warehouse, signal);
    const run = async (statement: string) => {
      for (const { sql, run: where } of dialect.render(statement, database)) {
        for (const target of where === "once" ? [warehouse] : shardsOf(own)) await target.command(sql, limits);
      }
    };
    refuse(await shardCountFault(warehouse, signal));
    for (const sql of dialect.databases(database)) await warehouse.command(sql, limits);
    await run(SCHEMA_MIGRATIONS.replaceAll("{{DATABASE}}", database));
    const known = await readApplied(warehouse, database, signal);
    assertUnchanged(migrations, known);
    const applied: string[] = [];
    for (const { filename, checksum, text } of migrations) {
      if (known.has(filename)) continue;
      for (const statement of splitStatements(text.replaceAll("{{DATABASE}}", database))) await run(statement);
      await warehouse.command(
        `INSERT INTO ${database}.schema_migrations (filename, checksum) SELECT {filename:String}, {checksum:String}`,
        { params: { filename, checksum }, signal },
      );
      logger?.info({ filename, database }, "migration applied");
      applied.push(filename);
    }
    refuse(await shardOrderFault(own, signal));
    return { applied };
  } finally {
    await Promise.all([warehouse[Symbol.asyncDispose](), own[Symbol.asyncDispose]()]);
  }
}

function refuse(fault: string | undefined): void {
  if (fault !== undefined) throw new MigrationError(fault);
}

async function dialectOf(warehouse: Warehouse, signal: AbortSignal | undefined): Promise<Dialect> {
  if (warehouse.cluster) return clusterDialect(warehouse.cluster.name);
  // Only ClickHouse Cloud has this engine, and it takes it for every MergeTree.
  const sql = "SELECT count() AS n FROM system.table_engines WHERE name = 'SharedMergeTree'";
  const [row] = await warehouse.query<{ n: string }>(sql, { signal });
  return Number(row?.n ?? 0) > 0 ? CLOUD : SINGLE_SERVER;
}

/** By filename, as schema_migrations has them once they are applied. Rejects with MigrationError for odd names. */
export async function readChecksums(directory: string): Promise<Map<string, string>> {
  const migrations = await readMigrations(directory);
  return new Map(migrations.map(({ filename, checksum }) => [filename, checksum]));
}

async function readMigrations(directory: string): Promise<Migration[]> {
  const filenames = (await readdir(directory)).filter((name) => name.endsWith(".sql")).sort();
  const odd = filenames.find((name) => !FILENAME.test(name));
  if (odd !== undefined)
    throw new MigrationError(`${odd} is not a valid migration name. Name it NNNN_what_it_does.sql.`);
  const twice = filenames.find((name, at) => filenames[at + 1]?.slice(0, 4) === name.slice(0, 4));
  if (twice !== undefined)
    throw new MigrationError(`Two migrations have the number ${twice.slice(0, 4)}. Renumber one.`);
  return Promise.all(
    filenames.map(async (filename) => {
      const text = await readFile(join(directory, filename), "utf8");
      // The checksum is of the file, so that it is the same for every database.
      const checksum = createHash("sha256").update(text).digest("hex");
      return { filename, checksum, text };
    }),
  );
}

async function readApplied(
  warehouse: Warehouse,
  database: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, string[]>> {
  const rows = await warehouse.query<{ filename: string; checksums: string[] }>(
    `SELECT filename, groupUniqArray(checksum) AS checksums FROM ${database}.schema_migrations GROUP BY filename`,
    { signal },
  );
  return new Map(rows.map(({ filename, checksums }) => [filename, checksums]));
}

function assertUnchanged(migrations: readonly Migration[], applied: ReadonlyMap<string, string[]>): void {
  for (const [filename, checksums] of applied) {
    const migration = migrations.find((candidate) => candidate.filename === filename);
    if (migration === undefined) {
      throw new MigrationError(
        `${filename} was applied to this database, but there is no such file. This program is older than the database: run the newer one, or restore a backup from before the upgrade.`,
      );
    }
    if (checksums.some((checksum) => checksum !== migration.checksum)) {
      throw new MigrationError(
        `${filename} has changed since it was applied. Restore the file and put the change into a new migration.`,
      );
    }
  }
  const last = [...applied.keys()].sort().at(-1);
  const late = migrations.find(({ filename }) => last !== undefined && filename < last && !applied.has(filename));
  if (late !== undefined) {
    throw new MigrationError(`${late.filename} comes before ${last}, which is applied. Give it the next free number.`);
  }
}
