// `npm run fixture`: keeps a data directory as this version leaves it, for the tests of later versions (test/fixtures/): stored
// events, people and points, and events that were acknowledged and not stored when everything was killed with -9. Of another
// checkout, under a name: npm run fixture -- DIRECTORY NAME
import { mkdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { packageVersion } from "#lib/process/version.ts";
import { childrenOf } from "../test/kit/os-processes.ts";
import { must } from "../test/kit/sdk-packages.ts";
import { type RunningStandalone, startStandalone, temporaryDirectory } from "../test/kit/standalone.ts";
import { until } from "../test/kit/until.ts";

const FIXTURES = fileURLToPath(new URL("../test/fixtures", import.meta.url));
const STORED = 40;
const WAITING = 25;

/** What is in a fixture, beside its data.tar.gz. */
export interface FixtureFacts {
  version: string;
  /** Ids of events that have rows. */
  stored: string[];
  /** Ids of events that are on the log alone. */
  waiting: string[];
  /** Distinct ids of one person. */
  person: string[];
  points: number;
}

async function main([checkout, name]: readonly string[]): Promise<void> {
  await using folder = await temporaryDirectory();
  const dataDir = join(folder.path, "data");
  const other = checkout && { millrace: [process.execPath, join(checkout, "services/cli.ts")] };
  await using standalone = await startStandalone({ dataDir, ...other });
  const facts: FixtureFacts = {
    version: name ?? packageVersion(),
    stored: ids(1, STORED),
    waiting: ids(2, WAITING),
    person: ["anna", "device-1"],
    points: 1,
  };
  await publish(standalone, facts.stored);
  // Twice: the second time they are duplicates.
  await publish(standalone, facts.stored.slice(0, 5));
  await post(standalone, [
    { event: "$identify", distinctId: "anna", properties: { $anon_distinct_id: "device-1", $set: { plan: "pro" } } },
  ]);
  await sendPoint(standalone.relayAddress);
  const isStored = async () =>
    (await standalone.query(
      "SELECT (SELECT count() FROM millrace.events_raw), (SELECT count() FROM millrace.points)",
    )) === `${STORED + 1}\t1`;
  await until(isStored, "everything is stored");
  await until(
    async () =>
      (await standalone.query(
        "SELECT uniqExact(person_id) FROM millrace.events WHERE distinct_id IN ('anna', 'device-1')",
      )) === "1",
    "one person",
  );
  // ClickHouse stands still: what is accepted now is on the log and nowhere else.
  const [engine = 0] = await childrenOf(standalone.process.pid);
  process.kill(engine, "SIGSTOP");
  await publish(standalone, facts.waiting);
  await standalone.process.stop("SIGKILL");
  process.kill(engine, "SIGKILL");
  const place = join(FIXTURES, facts.version);
  await rm(place, { recursive: true, force: true });
  await mkdir(place, { recursive: true });
  const packing = ["--sort=name", "--owner=0", "--group=0", "--use-compress-program=gzip -9n", "-cf"];
  await must("tar", [...packing, join(place, "data.tar.gz"), "-C", dataDir, "."]);
  await writeFile(join(place, "facts.json"), `${JSON.stringify(facts, null, 2)}\n`);
  process.stdout.write(`${place}: ${STORED} stored, ${WAITING} waiting\n`);
}

function ids(kind: number, count: number): string[] {
  return Array.from(
    { length: count },
    (_, at) => `0192f0c1-0000-7abc-8def-${String(kind * 1000 + at).padStart(12, "0")}`,
  );
}

function publish(standalone: RunningStandalone, wanted: readonly string[]): Promise<void> {
  const people = ["anna", "device-1", "bob"];
  return post(
    standalone,
    wanted.map((id, at) => ({
      id,
      event: "order",
      distinctId: people[at % 3],
      value: at,
      properties: { n: at, text: "ünïcode" },
    })),
  );
}

async function post({ url }: RunningStandalone, events: readonly object[]): Promise<void> {
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
