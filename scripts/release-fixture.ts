// `npm run fixture`: keeps a data directory as this version leaves it, for the tests of later versions (test/fixtures/): stored
// events, people and points, and events that were acknowledged and not stored when everything was killed with -9. With
// --kafka, of its services before a broker. Of another checkout, under a name: npm run fixture -- DIRECTORY NAME
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { packageVersion } from "#lib/process/version.ts";
import { startOn } from "../test/kit/kafka.ts";
import { createStorage } from "../test/kit/kafka-java.ts";
import { childrenOf } from "../test/kit/os-processes.ts";
import { spawnMillrace } from "../test/kit/processes.ts";
import { must } from "../test/kit/sdk-packages.ts";
import { askClickHouse, startStandalone, temporaryDirectory } from "../test/kit/standalone.ts";
import { until } from "../test/kit/until.ts";

const FIXTURES = fileURLToPath(new URL("../test/fixtures", import.meta.url));
const ON_KAFKA = "--kafka";
/** Directories within data.tar.gz of a fixture on Kafka. */
export const [KAFKA_DATA, CLICKHOUSE_DATA] = ["kafka", "clickhouse"] as const;
const STORED = 40;
const WAITING = 25;

/** What is in a fixture, beside its data.tar.gz. */
export interface FixtureFacts {
  version: string;
  /** Default sqlite. */
  log?: "sqlite" | "kafka";
  /** Ids of events that have rows. */
  stored: string[];
  /** Ids of events that are on the log alone. */
  waiting: string[];
  /** Distinct ids of one person. */
  person: string[];
}

/** What publishes and stores, however many processes it is. */
interface System {
  /** Of the gateway. */
  url: string;
  query(sql: string): Promise<string>;
  /** Holds the process that has ClickHouse's files. */
  enginePid: number;
  /** Ends everything, Millrace with -9. */
  kill(): Promise<void>;
}

async function main(args: readonly string[]): Promise<void> {
  const [checkout, name = packageVersion()] = args.filter((arg) => arg !== ON_KAFKA);
  await using folder = await temporaryDirectory();
  const dataDir = join(folder.path, "data");
  await mkdir(dataDir);
  const millrace = checkout ? [process.execPath, join(checkout, "services/cli.ts")] : undefined;
  const isOnKafka = args.includes(ON_KAFKA);
  const place = join(FIXTURES, isOnKafka ? `${name}-kafka` : name);
  await using stack = new AsyncDisposableStack();
  const facts: FixtureFacts = {
    ...{ version: name, log: isOnKafka ? "kafka" : "sqlite" },
    ...{ stored: ids(1, STORED), waiting: ids(2, WAITING), person: ["anna", "device-1"] },
  };
  const system = isOnKafka ? await startOnKafka(stack, dataDir, millrace) : await startAsOne(stack, dataDir, millrace);
  await publish(system, facts.stored);
  // Twice: the second time they are duplicates.
  await publish(system, facts.stored.slice(0, 5));
  await post(system, [
    { event: "$identify", distinctId: "anna", properties: { $anon_distinct_id: "device-1", $set: { plan: "pro" } } },
  ]);
  const isStored = async () => (await system.query("SELECT count() FROM millrace.events_raw")) === `${STORED + 1}`;
  await until(isStored, "everything is stored");
  const people = "SELECT uniqExact(person_id) FROM millrace.events WHERE distinct_id IN ('anna', 'device-1')";
  await until(async () => (await system.query(people)) === "1", "one person");
  // ClickHouse stands still: what is accepted now is on the log and nowhere else.
  process.kill(system.enginePid, "SIGSTOP");
  await publish(system, facts.waiting);
  await system.kill();
  await rm(place, { recursive: true, force: true });
  await mkdir(place, { recursive: true });
  const packing = ["--sort=name", "--owner=0", "--group=0", "--use-compress-program=gzip -9n", "-cf"];
  await must("tar", [...packing, join(place, "data.tar.gz"), "-C", dataDir, "."]);
  await writeFile(join(place, "facts.json"), `${JSON.stringify(facts, null, 2)}\n`);
  process.stdout.write(`${place}: ${STORED} stored, ${WAITING} waiting\n`);
}

/** `millrace start`, with a point beside the events. */
async function startAsOne(stack: AsyncDisposableStack, dataDir: string, millrace?: readonly string[]): Promise<System> {
  const standalone = stack.use(await startStandalone({ dataDir, ...(millrace && { millrace }) }));
  await sendPoint(standalone.relayAddress);
  const points = () => standalone.query("SELECT count() FROM millrace.points");
  await until(async () => (await points()) === "1", "the point is stored");
  const [enginePid = 0] = await childrenOf(standalone.process.pid);
  return {
    url: standalone.url,
    query: standalone.query,
    enginePid,
    async kill() {
      await standalone.process.stop("SIGKILL");
      process.kill(enginePid, "SIGKILL");
    },
  };
}

/** Its services before a broker, whose data directory is kept as it leaves it when it is told to stop. */
async function startOnKafka(
  stack: AsyncDisposableStack,
  dataDir: string,
  millrace?: readonly string[],
): Promise<System> {
  const storage = await createStorage();
  const broker = stack.use(await startOn(storage));
  const spawn = (command: string, env: Record<string, string>) => stack.use(spawnMillrace([command], env, millrace));
  const own = { HOST: "127.0.0.1", PORT: "0", CONSUMER_PORT: "0" };
  const clickhouseEnv = { ...own, CLICKHOUSE_HTTP_PORT: "0", DATA_DIR: join(dataDir, CLICKHOUSE_DATA) };
  const clickhouse = spawn("clickhouse", clickhouseEnv);
  const { url } = await clickhouse.logged("ClickHouse endpoint is ready");
  const clickhouseUrl = String(url);
  const env = { ...own, KAFKA_BROKERS: broker.brokers.join(","), CLICKHOUSE_URL: clickhouseUrl };
  const migrating = spawn("migrate", env);
  if ((await migrating.exited) !== 0) throw new Error(`migrate failed:\n${migrating.lines.join("\n")}`);
  const gateway = spawn("gateway", env);
  const { port } = await gateway.logged("gateway listening");
  const consumer = spawn("consumer", env);
  const [enginePid = 0] = await childrenOf(clickhouse.pid);
  return {
    url: `http://127.0.0.1:${port}`,
    query: (sql) => askClickHouse(clickhouseUrl, sql),
    enginePid,
    async kill() {
      await Promise.all([gateway, consumer, clickhouse].map((service) => service.stop("SIGKILL")));
      process.kill(enginePid, "SIGKILL");
      await broker.stop();
      await cp(join(storage.directory, "data"), join(dataDir, KAFKA_DATA), { recursive: true });
    },
  };
}

function ids(kind: number, count: number): string[] {
  return Array.from(
    { length: count },
    (_, at) => `0192f0c1-0000-7abc-8def-${String(kind * 1000 + at).padStart(12, "0")}`,
  );
}

function publish(system: System, wanted: readonly string[]): Promise<void> {
  const people = ["anna", "device-1", "bob"];
  return post(
    system,
    wanted.map((id, at) => ({
      id,
      event: "order",
      distinctId: people[at % 3],
      value: at,
      properties: { n: at, text: "ünïcode" },
    })),
  );
}

async function post({ url }: System, events: readonly object[]): Promise<void> {
  const answer = await fetch(`${url}/millrace.events.v1.EventService/Publish`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ events }),
  });
  const body = (await answer.json()) as { accepted?: number };
  if (body.accepted !== events.length) throw new Error(`${answer.status}: ${JSON.stringify(body)}`);
}

/** Resolves when the relay has said that it knows the host; the value follows. */
async function sendPoint(address: string): Promise<void> {
  const [host = "", port = ""] = address.split(":");
  const socket = connect({ host, port: Number(port) });
  await new Promise((resolve, reject) => socket.once("data", resolve).once("error", reject).write("id fixture\n"));
  socket.end("add cpu:\ngot cpu-value:1\n");
}

if (import.meta.main) await main(process.argv.slice(2));
