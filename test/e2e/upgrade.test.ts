// What other versions left behind when they were killed, opened by this one: test/fixtures/, made by `npm run fixture`.
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { CLICKHOUSE_DATA, type FixtureFacts, KAFKA_DATA } from "../../scripts/release-fixture.ts";
import { kafkaForTests, startOn } from "../kit/kafka.ts";
import { createStorageFrom } from "../kit/kafka-java.ts";
import { spawnMillrace } from "../kit/processes.ts";
import { must } from "../kit/sdk-packages.ts";
import { askClickHouse, runMillrace, startStandalone, temporaryDirectory } from "../kit/standalone.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures", import.meta.url));
const kafka = kafkaForTests();

const ALL = readdirSync(FIXTURES).map((name) => {
  const facts = JSON.parse(readFileSync(join(FIXTURES, name, "facts.json"), "utf8")) as FixtureFacts;
  return { name, facts };
});
const ofSqlite = ALL.filter(({ facts }) => facts.log !== "kafka");
const ofKafka = ALL.filter(({ facts }) => facts.log === "kafka");

it.each(ofSqlite)(
  "what $name stored is there, what it had only accepted is stored, each event once, and verify agrees",
  async ({ name, facts }) => {
    await using folder = await unpacked(name);
    await using standalone = await startStandalone({ dataDir: folder.path });
    await expectEachOnce(facts, standalone.env, standalone.query);
    expect(await standalone.process.stop("SIGTERM")).toBe(0);
  },
);

it.skipIf(!kafka.available).each(ofKafka)(
  "what $name left on a topic, in its group and in ClickHouse is gone on with: each event once, and verify agrees",
  async ({ name, facts }) => {
    await using folder = await unpacked(name);
    await using broker = await startOn(await createStorageFrom(join(folder.path, KAFKA_DATA)));
    const own = { HOST: "127.0.0.1", PORT: "0", CONSUMER_PORT: "0" };
    const dataDir = join(folder.path, CLICKHOUSE_DATA);
    await using clickhouse = spawnMillrace(["clickhouse"], { ...own, CLICKHOUSE_HTTP_PORT: "0", DATA_DIR: dataDir });
    const { url } = await clickhouse.logged("ClickHouse endpoint is ready");
    const env = { ...own, KAFKA_BROKERS: broker.brokers.join(","), CLICKHOUSE_URL: String(url) };
    const migrated = await runMillrace(["migrate"], env);
    expect(migrated, migrated.stdout + migrated.stderr).toMatchObject({ code: 0 });
    await using consumer = spawnMillrace(["consumer"], env);
    await expectEachOnce(facts, env, (sql) => askClickHouse(String(url), sql));
    expect(await consumer.stop("SIGTERM")).toBe(0);
  },
);

async function unpacked(name: string) {
  const folder = await temporaryDirectory();
  const path = join(folder.path, "data");
  mkdirSync(path);
  await must("tar", ["-xzf", join(FIXTURES, name, "data.tar.gz"), "-C", path]);
  return { path, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

async function expectEachOnce(
  { stored, waiting, person }: FixtureFacts,
  env: Record<string, string>,
  query: (sql: string) => Promise<string>,
): Promise<void> {
  const verified = await runMillrace(["verify", "--wait", "120s"], env);
  expect(verified, verified.stdout + verified.stderr).toMatchObject({ code: 0 });
  const rows = "SELECT toString(uuid), count() FROM millrace.events WHERE event = 'order' GROUP BY uuid ORDER BY uuid";
  expect((await query(rows)).split("\n")).toEqual([...stored, ...waiting].map((id) => `${id}\t1`));
  const people = `SELECT uniqExact(person_id) FROM millrace.events WHERE distinct_id IN ('${person.join("', '")}')`;
  expect(await query(people)).toBe("1");
}
