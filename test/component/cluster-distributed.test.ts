// The tables of a cluster of one shard in one engine that is told of the cluster: reads go through real Distributed tables,
// into which the shards' tables are read without a network. Two shards are the same one twice, since the engine serves no other:
// each row is read twice, and what Distributed tables refuse is refused.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { clusterDialect } from "#lib/warehouse/cluster/ddl.ts";
import { splitStatements } from "#lib/warehouse/sql.ts";
import { createStatsQueries } from "../../services/stats/queries/queries.ts";
import { temporaryDirectory } from "../kit/standalone.ts";

const DIRECTORY = fileURLToPath(new URL("../../migrations", import.meta.url));
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SHARD = "<shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard>";
/** Runs statements one after the other and prints their results as a list. */
const ENGINE = `
  const [path, config] = process.argv.slice(1);
  const session = new (require("chdb").Session)(path, { connectionArgs: ["--config-file=" + config] });
  const statements = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  console.log(JSON.stringify(statements.map((sql) => session.query(sql, "TSV").trim())));
  session.cleanup();`;

const ROWS = `INSERT INTO millrace_local.events_raw (uuid, event, distinct_id, person_id_at_ingest, timestamp, inserted_at,
    properties, log_epoch, log_topic, log_partition, log_offset, log_time)
  SELECT generateUUIDv4(), 'order', concat('d', toString(number % 4)), generateUUIDv4(), now64(6), now64(6), '{}', 'epoch',
    'millrace.events', 0, number, now64(3) FROM numbers(10)`;
const POINTS = `INSERT INTO millrace_local.points (uuid, metric, value, tags, time, inserted_at, relay_id, collector, log_epoch,
    log_topic, log_partition, log_offset, log_time)
  SELECT generateUUIDv4(), 'new', 1, map(), now64(6), now64(6), '', '', 'epoch', 'millrace.points', 0, 0, now64(3)`;
/** A series that is there and one that was deleted. */
const ROLLED_UP = `INSERT INTO millrace_local.points_5m (metric, log_epoch, log_topic, version, is_deleted)
  SELECT c1, 'epoch', 'millrace.points', 1, c2 FROM VALUES(('kept', 0), ('gone', 1))`;
const TABLES = "SELECT name, engine FROM system.tables WHERE database = 'millrace' ORDER BY name";

/** As on one server without Keeper: engines without replicas, and every statement here. */
function withoutKeeper(sql: string): string {
  return sql
    .replace(/ ON CLUSTER '\w+'/g, "")
    .replace(/\bReplicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?/g, "$1(")
    .replace(/,?\s*\breplicated_deduplication_window_seconds = \d+/g, "")
    .replace(/\breplicated_deduplication_window\b/g, "non_replicated_deduplication_window");
}

async function runAll(directory: string, statements: readonly string[], shards = 1): Promise<string[]> {
  const config = join(directory, "config.xml");
  const cluster = `<events>${SHARD.repeat(shards)}</events>`;
  writeFileSync(
    config,
    `<clickhouse><tcp_port>9000</tcp_port><remote_servers>${cluster}</remote_servers></clickhouse>`,
  );
  const child = spawn(process.execPath, ["-e", ENGINE, join(directory, "data"), config], { cwd: ROOT });
  child.stdin.end(JSON.stringify(statements));
  const [printed, failed] = await Promise.all([text(child.stdout), text(child.stderr)]);
  expect(failed).toBe("");
  return JSON.parse(printed) as string[];
}

function definitions(): string[] {
  const dialect = clusterDialect("events");
  const files = readdirSync(DIRECTORY)
    .sort()
    .map((name) => readFileSync(join(DIRECTORY, name), "utf8").replaceAll("{{DATABASE}}", "millrace"));
  return [
    ...dialect.databases("millrace"),
    ...files.flatMap(splitStatements).flatMap((sql) => dialect.render(sql, "millrace").map((each) => each.sql)),
  ].map(withoutKeeper);
}

it("every table and view of a cluster is read through Distributed tables, and people are told apart", async () => {
  await using folder = await temporaryDirectory();
  const tables = (await runAll(folder.path, [...definitions(), ROWS, TABLES])).at(-1)?.split("\n") ?? [];
  const engines = new Map(tables.map((line) => line.split("\t") as [string, string]));
  expect([...engines].filter(([, engine]) => engine === "Distributed").map(([name]) => name)).toEqual([
    "dead_letters",
    "events_raw",
    "log_outcomes",
    "points",
    "points_5m",
    "rollup_progress",
  ]);
  const names = [...engines.keys()];
  const counts = await runAll(
    folder.path,
    names.map((name) => `SELECT count() FROM millrace.${name}`),
  );
  const filled = Object.fromEntries(names.map((name, at) => [name, Number(counts[at])]));
  expect(filled).toMatchObject({ events_raw: 10, events: 10 });
  const [byPerson] = await runAll(folder.path, [
    "SELECT distinct_id, count() FROM millrace.events WHERE event = 'order' GROUP BY distinct_id ORDER BY distinct_id",
  ]);
  expect(byPerson).toBe("d0\t3\nd1\t3\nd2\t2\nd3\t2");
});

it("names of metrics are found on every shard", async () => {
  await using folder = await temporaryDirectory();
  await runAll(folder.path, [...definitions(), POINTS, ROLLED_UP], 2);
  async function query<Row>(sql: string): Promise<Row[]> {
    const [found = ""] = await runAll(folder.path, ["USE millrace", sql], 2).then((all) => all.slice(1));
    return found.split("\n").map((n) => ({ n }) as Row);
  }
  const limits = { maxConcurrent: 1, pollMs: 1_000, flushMs: 1_000, pointsKeptMs: undefined };
  expect(await createStatsQueries({ warehouse: { query }, ...limits }).metrics()).toEqual(["kept", "new"]);
});
