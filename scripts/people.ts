// `npm run people`: generated people whose number and identity are known, through the consumer into ClickHouse, and every
// answer about them compared with what is known. test/component/queries.test.ts is its short form.
import { inspect, isDeepStrictEqual, parseArgs } from "node:util";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse } from "../test/kit/clickhouse.ts";
import { createStage } from "../test/kit/consumer.ts";
import { resolved } from "../test/kit/identity.ts";
import { type Asked, KNOWN_ANSWERS } from "../test/kit/known-answers.ts";
import { knownPeople } from "../test/kit/known-people.ts";

const DATABASE = "people";
const PARTITIONS = 4;
/** Not every user says everything: on average up to three events less than asked for. */
const SHORT_BY = 3;
const APPEND_RECORDS = 50_000;
const PROGRESS_MS = 5_000;
const DIFFERENCE_CHARACTERS = 2_000;
/** A million events take half a minute on two cores. */
const DRAIN_MS_MAX = 1_800_000;

const { values } = parseArgs({
  options: {
    users: { type: "string", default: "10000" },
    events: { type: "string", default: "1000000" },
    help: { type: "boolean", default: false },
  },
});

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Shows how far the consumer is until it is told to stop. */
function reportRows(warehouse: Warehouse, total: number): Disposable {
  const timer = setInterval(() => {
    warehouse
      .query<{ n: string }>("SELECT count() AS n FROM events_raw")
      .then(([row]) => say(`  ${row?.n ?? 0} of ${total} events stored`))
      .catch((error: unknown) => say(`  the number of events is not known: ${String(error)}`));
  }, PROGRESS_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Resolves with the number of answers that differ from what is known. */
async function compareAll(asked: Asked): Promise<number> {
  let wrong = 0;
  for (const { what, ask } of KNOWN_ANSWERS) {
    const begun = performance.now();
    const { actual, expected } = await ask(asked);
    const isRight = isDeepStrictEqual(actual, expected);
    say(`${isRight ? "ok  " : "DIFF"} ${what} (${Math.round(performance.now() - begun)} ms)`);
    if (isRight) continue;
    wrong++;
    const shown = (value: unknown) => inspect(value, { depth: 4, maxArrayLength: 20 }).slice(0, DIFFERENCE_CHARACTERS);
    say(`  answered ${shown(actual)}\n  known    ${shown(expected)}`);
  }
  return wrong;
}

async function run(users: number, events: number): Promise<number> {
  const nowUs = Date.now() * 1000;
  const begun = performance.now();
  const known = knownPeople(users, Math.ceil(events / users) + SHORT_BY, nowUs);
  const seconds = () => ((performance.now() - begun) / 1000).toFixed(1);
  const total = known.events.length;
  say(`${seconds()} s: made ${total} events of ${users} users, who are ${known.people.size} people`);
  await using clickhouse = await startTestClickHouse();
  await clickhouse.migrate(DATABASE);
  const warehouse = clickhouse.warehouse(DATABASE);
  {
    await using stage = await createStage(warehouse, { partitions: PARTITIONS, epoch: "people" });
    for (let at = 0; at < total; at += APPEND_RECORDS) {
      await stage.append(...known.events.slice(at, at + APPEND_RECORDS).map(({ record }) => record));
    }
    using _report = reportRows(warehouse, total);
    stage.start({ config: { flushInterval: 1_000 } });
    await stage.drained(DRAIN_MS_MAX);
    say(`${seconds()} s: all are stored`);
    await resolved(warehouse, DRAIN_MS_MAX);
    say(`${seconds()} s: everybody is who they are`);
  }
  const wrong = await compareAll({ warehouse, known, nowUs });
  say(`${seconds()} s: ${KNOWN_ANSWERS.length} answers, ${wrong} differ from what is known`);
  return wrong;
}

if (values.help) {
  say("npm run people -- [--users 10000] [--events 1000000]   (at least so many events)");
} else {
  const [users, events] = [Number(values.users), Number(values.events)];
  if (!(Number.isSafeInteger(users) && users >= 100 && Number.isSafeInteger(events) && events >= users * 10)) {
    process.stderr.write("people: give at least 100 users, and at least 10 events for each\n");
    process.exitCode = 2;
  } else {
    process.exitCode = (await run(users, events)) === 0 ? 0 : 1;
  }
}
