// The child process that owns the data: it comes back after kill -9 with every acknowledged row, and never outlives us.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { startClickHouse } from "../../services/clickhouse/app.ts";
import { patience } from "../kit/patience.ts";
import { createDisk, limitFileSize } from "../kit/small-disk.ts";

let dataDir: string;
const options = () => ({ host: "127.0.0.1", port: 0, dataDir, user: "default", password: "" });

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "millrace-clickhouse-"));
});
afterEach(() => rm(dataDir, { recursive: true, force: true }));

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

// ClickHouse writes an insert's token before its part: killed in between, it answers the repetition without storing it.
// Who repeats has to count (docs/design.md, "Exactly once"); what was acknowledged at the first try has to be there.
it("has what was acknowledged after kill -9 in the middle of inserts, and nothing twice", {
  timeout: patience(120_000),
}, async () => {
  await using endpoint = await startClickHouse(options());
  const { port } = endpoint;
  const warehouse = createClickHouseWarehouse({
    url: endpoint.url,
    user: "default",
    password: "",
    database: "default",
  });
  await warehouse.command(`CREATE TABLE t (batch UInt32, row UInt32) ENGINE = MergeTree ORDER BY (batch, row)
    SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1`);
  let failures = 0;
  let acknowledged = 0;
  const batches: number[] = [];
  const repeated = new Set<number>();
  const kills = 3;
  const insertAll = async (lane: number) => {
    for (let batch = lane; acknowledged < 120 || endpoint.restarts < kills; batch += 2) {
      const rows = Buffer.from(Array.from({ length: 500 }, (_, row) => `[${batch},${row}]\n`).join(""));
      for (;;) {
        try {
          await warehouse.insert({ table: "t", columns: ["batch", "row"], rows, token: `batch-${batch}` });
          acknowledged++;
          batches.push(batch);
          break;
        } catch (error) {
          expect(error).toMatchObject({ kind: "transient" });
          failures++;
          repeated.add(batch);
          // Refused connections come back at once; let the restarting process have the processor.
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    }
  };
  const killAll = async () => {
    for (let kill = 1; kill <= kills; kill++) {
      const before = acknowledged;
      await expect.poll(() => acknowledged, { timeout: 30_000, interval: 1 }).toBeGreaterThan(before + 10);
      process.kill(endpoint.pid ?? 0, "SIGKILL");
      await expect.poll(() => endpoint.restarts, { timeout: 30_000 }).toBe(kill);
    }
  };
  await Promise.all([insertAll(0), insertAll(1), killAll()]);
  const stored = await warehouse.query<{ batch: number; rows: string; distinct_rows: string }>(
    "SELECT batch, count() AS rows, uniqExact(row) AS distinct_rows FROM t GROUP BY batch",
  );
  expect(failures).toBeGreaterThan(0);
  expect(endpoint.port).toBe(port);
  for (const { rows, distinct_rows } of stored) expect([rows, distinct_rows]).toEqual(["500", "500"]);
  const there = new Set(stored.map(({ batch }) => batch));
  const missing = batches.filter((batch) => !there.has(batch));
  expect(missing.filter((batch) => !repeated.has(batch))).toEqual([]);
  expect(there.size + missing.length).toBe(acknowledged);
  await warehouse[Symbol.asyncDispose]();
});

// chdb goes on where a file could not be written, and answers as if it had been.
it("acknowledges nothing that it could not write, and has everything else after it started again by itself", async () => {
  await using endpoint = await startClickHouse(options());
  const { url } = endpoint;
  await using warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database: "default" });
  await warehouse.command(`CREATE TABLE t (a UInt8, INDEX i a TYPE minmax) ENGINE = MergeTree ORDER BY a
    SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1`);
  const insert = (a: number, token = `insert-${a}`) =>
    warehouse.insert({ table: "t", columns: ["a"], rows: Buffer.from(`[${a}]\n`), token });
  const stored = () => warehouse.query<{ a: number }>("SELECT a FROM t WHERE a < 200 ORDER BY a");
  const writes = [() => insert(3), () => warehouse.command("OPTIMIZE TABLE t FINAL")];
  await insert(1);
  await insert(2);
  for (const [at, write] of writes.entries()) {
    await limitFileSize(endpoint.pid ?? 0, "0");
    await expect(write()).rejects.toMatchObject({ kind: "transient" });
    await expect.poll(() => endpoint.restarts, { timeout: 30_000 }).toBe(at + 1);
    expect(await stored()).toEqual([{ a: 1 }, { a: 2 }]);
  }
  // The token may be spent on what was lost: who repeats has to look (docs/design.md, "Exactly once").
  await insert(3, "insert-3:r1");
  expect(await stored()).toEqual([{ a: 1 }, { a: 2 }, { a: 3 }]);
});

it("begins no insert and changes no table while the disk is nearly full", async ({ skip }) => {
  await using disk = await createDisk(64);
  if (!disk.isMounted) return skip("no file system can be mounted here: run the tests as root");
  await using endpoint = await startClickHouse({ ...options(), dataDir: disk.dataDir });
  const post = async (body: string) => (await fetch(endpoint.url, { method: "POST", body })).text();
  const insert = () => post("INSERT INTO t (a) VALUES (1)");
  const alter = () => post("ALTER TABLE t ADD COLUMN IF NOT EXISTS b UInt8");
  await post("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a");
  expect(await insert()).toBe("");
  const { bavail, bsize } = await statfs(disk.dataDir);
  const filler = join(disk.dataDir, "filler");
  await writeFile(filler, Buffer.alloc(bavail * bsize - 3 * 1024 * 1024));
  expect(await insert()).toContain("(NOT_ENOUGH_SPACE)");
  expect(await alter()).toBe("");
  const filled = await disk.fill(process.pid);
  expect(await insert()).toContain("(NOT_ENOUGH_SPACE)");
  expect(await alter()).toContain("There is no room to write what ALTER changes: free space on the disk of");
  expect(await post("SELECT a, b FROM t")).toBe("1\t0\n");
  await rm(filler);
  await filled.free();
  expect([await insert(), await alter(), await post("SELECT count() FROM t")]).toEqual(["", "", "2\n"]);
  expect(endpoint.restarts).toBe(0);
});

it("ends with its parent, even when that is killed with -9", async () => {
  const module = fileURLToPath(new URL("../../services/clickhouse/app.ts", import.meta.url));
  const script = `const { startClickHouse } = await import(${JSON.stringify(module)});
    const endpoint = await startClickHouse(${JSON.stringify(options())});
    console.log(endpoint.pid);`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const pid = Number(await firstLine(parent));
  expect(isAlive(pid)).toBe(true);
  parent.kill("SIGKILL");
  await expect.poll(() => isAlive(pid), { timeout: 20_000 }).toBe(false);
});

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.stdout?.once("data", (data: Buffer) => resolve(data.toString().trim()));
    child.once("exit", (code) => reject(new Error(`ended with ${code} before it said anything`)));
  });
}

it("keeps its data over a clean stop", async () => {
  for (const expected of ["1\n", "2\n"]) {
    await using endpoint = await startClickHouse(options());
    const post = async (body: string) => (await fetch(endpoint.url, { method: "POST", body })).text();
    await post("CREATE TABLE IF NOT EXISTS t (a UInt8) ENGINE = MergeTree ORDER BY a");
    await post("INSERT INTO t VALUES (1)");
    expect(await post("SELECT count() FROM t")).toBe(expected);
  }
});

it("outlives the signals that a group gets, until its parent is done with it", async () => {
  await using endpoint = await startClickHouse(options());
  const { pid = 0 } = endpoint;
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.kill(pid, signal);
  const answer = await fetch(`${endpoint.url}/?query=${encodeURIComponent("SELECT sleep(0.3)")}`);
  expect([answer.status, await answer.text()]).toEqual([200, "0\n"]);
  expect([endpoint.pid, endpoint.restarts]).toEqual([pid, 0]);
});

it("is gone when disposed, also with a query running", async () => {
  const endpoint = await startClickHouse(options());
  const pid = endpoint.pid ?? 0;
  const sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))";
  const running = fetch(endpoint.url, { method: "POST", body: sql }).catch(() => undefined);
  const processes = async () =>
    (await fetch(endpoint.url, { method: "POST", body: "SELECT count() FROM system.processes" })).text();
  await expect.poll(processes, { timeout: 10_000 }).toBe("2\n");
  await endpoint[Symbol.asyncDispose]();
  expect(isAlive(pid)).toBe(false);
  await running;
});

it("says what to do about a second owner of the data, a taken port and a directory it cannot write", async () => {
  await using endpoint = await startClickHouse(options());
  await expect(startClickHouse(options())).rejects.toThrow(/locked: another process .* set DATA_DIR/);
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
  const address = blocker.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  await expect(startClickHouse({ ...options(), port, dataDir: join(dataDir, "other") })).rejects.toThrow(
    new RegExp(`Port ${port} .* is taken.*CLICKHOUSE_HTTP_PORT`),
  );
  blocker.close();
  expect(endpoint.restarts).toBe(0);
  await expect(startClickHouse({ ...options(), dataDir: fileURLToPath(import.meta.url) })).rejects.toThrow(
    /Cannot write.*DATA_DIR/,
  );
});
