// Drivers of other languages, with their defaults, on the standalone's port 8123: what README says of DBeaver and Grafana.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { DRIVERS, isAvailable } from "../kit/drivers.ts";

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** The first run fetches the drivers. */
const TIMEOUT_MS = 600_000;

describe.concurrent("connects, inserts and queries", () => {
  it.skipIf(!isAvailable(DRIVERS.go))(
    "clickhouse-go over HTTP, as Grafana's plugin does",
    { timeout: TIMEOUT_MS },
    async () => {
      const lines = await DRIVERS.go.lines(clickhouse.endpoint.port);
      expect(lines.sort()).toEqual(["br ok", "deflate ok", "gzip ok", "lz4 ok", "none ok", "zstd ok"]);
    },
  );

  it.skipIf(!isAvailable(DRIVERS.java))(
    "clickhouse-jdbc V2 and V1, as DBeaver does",
    { timeout: TIMEOUT_MS },
    async () => {
      const lines = await DRIVERS.java.lines(clickhouse.endpoint.port);
      const steps = ["schemas true", "tables true", "columns true", "types true", "create 0", "insert 1", "batch 100"];
      const all = [...steps, "query 100", "large 44999850000", "error 60"];
      expect(lines).toEqual(["v2", "v1"].flatMap((version) => all.map((step) => `${version} ${step}`)));
    },
  );

  it.skipIf(!isAvailable(DRIVERS.python))(
    "clickhouse-connect with pandas and Arrow",
    { timeout: TIMEOUT_MS },
    async () => {
      const lines = await DRIVERS.python.lines(clickhouse.endpoint.port);
      expect(lines).toEqual([
        ...["True", "False", "lz4", "zstd", "gzip"].flatMap((compress) => [
          `${compress} insert (1000, 1000)`,
          `${compress} insert_df ['x', 'y']`,
          `${compress} insert_arrow {'s': ['arrow']}`,
        ]),
        "DB-API executemany [('a',), ('b',)]",
        "SQLAlchemy (['a', 'b'], True, ['id', 's'])",
        "stream 1000000",
      ]);
    },
  );
});
