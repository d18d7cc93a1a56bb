// A real ClickHouse for tests: the standalone's endpoint on a free port, over a directory that goes with it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createLogger } from "#lib/process/log.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { migrate } from "#lib/warehouse/migrate.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type ClickHouseEndpoint, startClickHouse } from "../../services/clickhouse/app.ts";

export interface TestClickHouse extends AsyncDisposable {
  readonly url: string;
  readonly endpoint: ClickHouseEndpoint;
  readonly dataDir: string;
  /** Credentials to hand to a service under test. */
  readonly connection: { url: string; user: string; password: string };
  /** Applies the repository's migrations to `database`. */
  migrate(database: string): Promise<void>;
  /** Takes all rows of a migrated database, which is a fraction of the work of migrating another. */
  empty(database: string): Promise<void>;
  /** A client that is closed with the server. The database must exist before its first call. */
  warehouse(database: string): Warehouse;
}

/** Says how an engine ended that was not disposed of: its test sees no more than a connection that broke. */
const logger = createLogger({ level: "error", service: "test-clickhouse", stream: process.stderr });

/** Each call starts a process of its own (about a second); share one between the tests of a file. */
export async function startTestClickHouse(options: { password?: string } = {}): Promise<TestClickHouse> {
  const dataDir = await mkdtemp(join(tmpdir(), "millrace-clickhouse-"));
  const credentials = { user: "default", password: options.password ?? "" };
  const endpoint = await startClickHouse({ host: "127.0.0.1", port: 0, dataDir, ...credentials, logger }).catch(
    async (error) => {
      await rm(dataDir, { recursive: true, force: true });
      throw error;
    },
  );
  const connection = { url: endpoint.url, ...credentials };
  const warehouses: Warehouse[] = [];
  return {
    url: endpoint.url,
    endpoint,
    dataDir,
    connection,
    async migrate(database) {
      const directory = fileURLToPath(new URL("../../migrations", import.meta.url));
      await migrate({ connection, database, directory });
    },
    async empty(database) {
      await using warehouse = createClickHouseWarehouse({ ...connection, database });
      const filled = `SELECT name FROM system.tables WHERE database = currentDatabase()
        AND engine LIKE '%MergeTree' AND name != 'schema_migrations' AND total_rows > 0`;
      for (const { name } of await warehouse.query<{ name: string }>(filled)) {
        await warehouse.command(`TRUNCATE TABLE \`${name}\``);
      }
    },
    warehouse(database) {
      const warehouse = createClickHouseWarehouse({ ...connection, database });
      warehouses.push(warehouse);
      return warehouse;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(warehouses.map((warehouse) => warehouse[Symbol.asyncDispose]()));
      await endpoint[Symbol.asyncDispose]();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
