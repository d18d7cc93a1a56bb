// Persons are erased on the two logs there are: on Kafka while events keep coming, by the command and by RPC at the same
// time; and on the standalone.
import { setTimeout as pause } from "node:timers/promises";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { expect, it } from "vitest";
import { type Certificate, PersonService } from "#gen/millrace/identity/v1/persons_pb.ts";
import { createKafkaClient } from "#lib/eventlog/kafka/client.ts";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import type { OpenLog, Position } from "#lib/eventlog/log.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createErasures, type Erasure } from "#lib/identity/erasures.ts";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord } from "../kit/consumer.ts";
import { storedCounts } from "../kit/erasure.ts";
import { kafkaForTests } from "../kit/kafka.ts";
import { spawnMillrace } from "../kit/processes.ts";
import { runMillrace, startStandalone, temporaryDirectory } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

const kafka = kafkaForTests();
const PARTITIONS = 3;
const SECRET = "sk_e2e";
const HOUR_MS = 3_600_000;
/** Of whom the first two are erased, each with the id that it was anonymous under. */
const PEOPLE = ["ann", "bob", ...Array.from({ length: 20 }, (_, n) => `user${n}`)];

interface Told {
  distinctId: string;
  position: Position;
}

/** Appends events of everybody, in turns, until it is disposed of. */
function keepTelling(log: OpenLog, told: Told[]): AsyncDisposable & { readonly rounds: () => number } {
  const stop = new AbortController();
  let rounds = 0;
  const telling = (async () => {
    for (; !stop.signal.aborted; rounds++) {
      const ids = PEOPLE.flatMap((name) => [name, `anon-${name}`]);
      const positions = await log.append(
        EVENTS_TOPIC,
        ids.map((distinctId) => eventRecord({ distinctId, propertiesJson: JSON.stringify({ rounds }) })),
      );
      told.push(...ids.map((distinctId, n) => ({ distinctId, position: positions[n] as Position })));
      await pause(20);
    }
  })();
  return {
    rounds: () => rounds,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await telling;
    },
  };
}

function isErased({ distinctId, position }: Told, names: readonly string[], { ends }: Erasure): boolean {
  return names.includes(distinctId) && position.offset < (ends.get(position.partition) ?? 0);
}

function personClient(baseUrl: string) {
  return createClient(PersonService, createGrpcTransport({ baseUrl }));
}

async function deleteByRpc(baseUrl: string, distinctId: string): Promise<Certificate> {
  const request = { person: { case: "distinctId" as const, value: distinctId } };
  for await (const { answer } of personClient(baseUrl).delete(request, { headers: { "x-api-key": SECRET } })) {
    if (answer.case === "certificate") return answer.value;
  }
  throw new Error("no certificate");
}

async function setRetention(brokers: string[]): Promise<void> {
  const client = createKafkaClient({ brokers, clientId: "settings", logger: pino({ level: "silent" }) }, 5_000);
  const admin = client.kafka.admin();
  await admin.connect();
  const configEntries = [
    { name: "retention.ms", value: String(24 * HOUR_MS) },
    { name: "segment.ms", value: String(HOUR_MS) },
    { name: "message.timestamp.type", value: "LogAppendTime" },
  ];
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: EVENTS_TOPIC, configEntries }] });
  await admin.disconnect();
}

it.skipIf(!kafka.available)(
  "on Kafka two persons go while events keep coming, what remains is named until when, and verify finds nothing",
  async () => {
    if (!kafka.available) return;
    await using broker = await kafka.start();
    await using clickhouse = await startTestClickHouse();
    const database = "erasure_kafka";
    const env = {
      ...{ KAFKA_BROKERS: broker.brokers.join(","), KAFKA_PARTITIONS: String(PARTITIONS), SECRET_API_KEYS: SECRET },
      ...{ CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_DATABASE: database, CONSUMER_PORT: "0" },
      ...{ HOST: "127.0.0.1", STATS_PORT: "0", FLUSH_INTERVAL: "200ms" },
    };
    expect((await runMillrace(["migrate"], env)).code).toBe(0);
    await setRetention(broker.brokers);
    await using consumer = spawnMillrace(["consumer"], env);
    await using stats = spawnMillrace(["stats"], env);
    const log = createKafkaLog({ brokers: broker.brokers, clientId: "erasure", logger: pino({ level: "silent" }) });
    await using _log = { [Symbol.asyncDispose]: () => log[Symbol.asyncDispose]() };
    const warehouse = clickhouse.warehouse(database);
    const { port } = await stats.logged("stats listening");
    await consumer.logged("partition assigned");

    const told: Told[] = [];
    const links = PEOPLE.map((name) => ({ $anon_distinct_id: `anon-${name}`, $set: { name } }));
    const positions = await log.append(
      EVENTS_TOPIC,
      PEOPLE.map((distinctId, n) => {
        return eventRecord({ event: "$identify", distinctId, propertiesJson: JSON.stringify(links[n]) });
      }),
    );
    told.push(...PEOPLE.map((distinctId, n) => ({ distinctId, position: positions[n] as Position })));
    expect(new Set(positions.map(({ partition }) => partition)).size).toBe(PARTITIONS);
    const isStored = async (id: string) => ((await storedCounts(warehouse))[id] ?? 0) > 0;
    let byCommand: Awaited<ReturnType<typeof runMillrace>>;
    let byRpc: Certificate;
    {
      await using telling = keepTelling(log, told);
      await until(async () => (await isStored("anon-ann")) && (await isStored("bob")), "both are stored");
      const begunAt = telling.rounds();
      const asked = runMillrace(["persons", "delete", "--distinct-id", "anon-ann", "--yes", "--json"], env);
      [byCommand, byRpc] = await Promise.all([asked, deleteByRpc(`http://127.0.0.1:${port}`, "anon-bob")]);
      expect(telling.rounds()).toBeGreaterThan(begunAt + 10);
    }

    expect(byCommand.code, byCommand.stderr).toBe(0);
    const certificate = JSON.parse(byCommand.stdout);
    expect(certificate).toMatchObject({ clean: true, person: personIdOf("ann") });
    expect(byRpc).toMatchObject({ clean: true, person: { personId: personIdOf("bob") } });
    const erasures = createErasures(warehouse);
    const ann = (await erasures.newestOf(personIdOf("ann"))) as Erasure;
    const bob = (await erasures.newestOf(personIdOf("bob"))) as Erasure;

    // What each certificate says of the log is what the log says.
    const newest = async (partition: number, { ends }: Erasure) => {
      const from = (ends.get(partition) ?? 0) - 1;
      const read = await log.tail(EVENTS_TOPIC, partition, { from, maxRecords: 1, maxBytes: 1, maxWaitMs: 5_000 });
      return read[0]?.appendTimeMs ?? Number.NaN;
    };
    const ofAnn = await Promise.all([0, 1, 2].map((partition) => newest(partition, ann)));
    expect(certificate.remains).toEqual(
      ofAnn.map((ms, partition) => {
        return { partition, from: 0, to: (ann.ends.get(partition) ?? 0) - 1, newestAt: new Date(ms).toISOString() };
      }),
    );
    expect(Date.parse(certificate.remainsUntil)).toBe(Math.max(...ofAnn) + 25 * HOUR_MS);
    const ofBob = await Promise.all([0, 1, 2].map((partition) => newest(partition, bob)));
    expect(byRpc.remainsUntil && timestampMs(byRpc.remainsUntil)).toBe(Math.max(...ofBob) + 25 * HOUR_MS);
    expect(byRpc.remainsReason).toBe("the topic's retention.ms of 86400000 and segment.ms of 3600000");

    await until(async () => {
      const commits = await log.committed(EVENTS_TOPIC, CONSUMER_GROUP);
      const bounds = await log.bounds(EVENTS_TOPIC);
      return bounds.every(({ partition, end }) => commits.get(partition)?.offset === end);
    }, "everything is committed");
    const left = told.filter((one) => {
      return !isErased(one, ["ann", "anon-ann"], ann) && !isErased(one, ["bob", "anon-bob"], bob);
    });
    const counts: Record<string, number> = {};
    for (const { distinctId } of left) counts[distinctId] = (counts[distinctId] ?? 0) + 1;
    expect(await storedCounts(warehouse)).toEqual(counts);
    expect(Number(byRpc.erased) + certificate.erased).toBe(told.length - left.length);
    await until(async () => (await runMillrace(["verify", "--wait", "30s"], env)).code === 0, "verify finds nothing");
  },
);

it("the standalone erases a person by RPC with a secret key, and says how long its log keeps it", async () => {
  await using directory = await temporaryDirectory();
  const env = { SECRET_API_KEYS: SECRET, LOG_RETENTION: "2h" };
  await using standalone = await startStandalone({ dataDir: directory.path, env });
  const events = ["ann", "ann", "bob"].map((distinct_id) => ({ event: "seen", distinct_id }));
  const body = JSON.stringify({ api_key: SECRET, batch: events });
  const headers = { "content-type": "application/json" };
  expect((await fetch(`${standalone.url}/batch/`, { method: "POST", headers, body })).status).toBe(200);
  const stored = "SELECT count() FROM millrace.events WHERE distinct_id = ";
  await until(async () => (await standalone.query(`${stored}'bob'`)) === "1", "all is stored");
  const certificate = await deleteByRpc(standalone.statsUrl, "ann");
  expect(certificate).toMatchObject({ clean: true, erased: 2n, remainsReason: "the standalone's LOG_RETENTION" });
  const [range] = certificate.remains;
  if (!range?.newestTime || !certificate.remainsUntil) throw new Error("the certificate has no times");
  expect(timestampMs(certificate.remainsUntil)).toBe(timestampMs(range.newestTime) + 2 * HOUR_MS);
  expect([await standalone.query(`${stored}'ann'`), await standalone.query(`${stored}'bob'`)]).toEqual(["0", "1"]);
  expect((await runMillrace(["verify", "--wait", "30s"], standalone.env)).code).toBe(0);
});
