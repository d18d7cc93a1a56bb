// A consumer dies at every moment there is: before and after each call to the log and to the warehouse, one run a moment. The
// next one finishes. What is stored must be every record, once. Each moment is tried on a warehouse in memory, which
// answers as ClickHouse does (warehouse-contract.ts), and some of them on ClickHouse, where a run takes about ten times as long.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createMortal, createStage, eventRecord, idOf, poisonRecord, type Stage } from "../kit/consumer.ts";
import { createMemoryWarehouse } from "../kit/memory-warehouse.ts";
import { createRandom } from "../kit/random.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;
let runs = 0;
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("deaths");
  warehouse = clickhouse.warehouse("deaths");
  await warehouse.command("ALTER TABLE events_raw ADD CONSTRAINT refused CHECK event != 'refused'");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

interface Scenario {
  name: string;
  batchSize: number;
  /** `run` is another number each time. */
  records: (run: number) => AppendRecord[];
  expected: { rows: number; duplicates?: number; deadLetters?: number };
}

const plain = (count: number) => Array.from({ length: count }, () => eventRecord());

const scenarios: Scenario[] = [
  { name: "two batches of rows", batchSize: 10, records: () => plain(20), expected: { rows: 20 } },
  {
    name: "rows, duplicates and poison in one batch and across batches",
    batchSize: 4,
    records: () => [
      eventRecord({ id: idOf(1) }),
      poisonRecord,
      eventRecord({ id: idOf(1) }),
      eventRecord({ id: idOf(2) }),
      eventRecord({ id: idOf(2) }),
      eventRecord({ id: idOf(1) }),
      eventRecord(),
    ],
    expected: { rows: 3, duplicates: 3, deadLetters: 1 },
  },
  {
    name: "a refused row among good ones, its id coming again",
    batchSize: 50,
    records: () => [
      ...plain(1),
      eventRecord({ id: idOf(3), event: "refused" }),
      eventRecord({ id: idOf(3) }),
      eventRecord({ id: idOf(3) }),
    ],
    expected: { rows: 2, duplicates: 1, deadLetters: 1 },
  },
  {
    name: "flagged records",
    batchSize: 2,
    records: (run) => {
      // Lookups see every epoch, so that each run needs ids of its own.
      const id = idOf(1000 + run);
      return [eventRecord({ id }), eventRecord({ id, checkStored: true }), eventRecord({ id, checkStored: true })];
    },
    expected: { rows: 1, duplicates: 2 },
  },
];

interface Store {
  name: string;
  warehouse(): Warehouse;
  /** Every so many moments are tried. */
  step: number;
  /** Runs at a time, since most of one is waiting. */
  atATime: number;
  randomRounds: number;
}

const STORES: readonly Store[] = [
  {
    name: "in memory",
    warehouse: () => createMemoryWarehouse({ isRefused: ({ event }) => event === "refused" }),
    step: 1,
    atATime: 16,
    randomRounds: 40,
  },
  // Odd, so that deaths before a call and after its effect are both among them.
  { name: "in ClickHouse", warehouse: () => warehouse, step: 7, atATime: 4, randomRounds: 3 },
];

/** Lets consumers die at the given moments, one after another, then one live. False: the last of them did not die. */
async function survive(scenario: Scenario, store: Store, deaths: readonly number[]): Promise<boolean> {
  const run = ++runs;
  await using stage = await createStage(store.warehouse(), { epoch: `deaths-${run}` });
  await stage.append(...scenario.records(run));
  const config = { batchSize: scenario.batchSize };
  let hasDied = true;
  for (const [consumer, deathAt] of deaths.entries()) {
    const mortal = createMortal(deathAt);
    stage.start({ config, ...mortal.options });
    await Promise.race([mortal.died, stage.drained()]);
    hasDied = mortal.options.isDead();
    // One that outlived its work would still come to its moment while it idles.
    mortal.kill();
    await stage.log.killConsumer(consumer);
  }
  await finish(stage, config);
  expect(await stage.audit(), `deaths at ${deaths.join()}`).toMatchObject(exactlyOnce(scenario.expected));
  return hasDied;
}

/** The last death at each moment that the store's step leaves. Resolves with the number of moments. */
async function surviveEach(scenario: Scenario, store: Store, before: readonly number[]): Promise<number> {
  const { step, atATime } = store;
  for (let moment = step - 1; ; moment += atATime * step) {
    const moments = Array.from({ length: atATime }, (_, n) => moment + n * step);
    const haveDied = await Promise.all(moments.map((last) => survive(scenario, store, [...before, last])));
    const beyond = haveDied.indexOf(false);
    if (beyond >= 0) return moment + beyond * step;
  }
}

async function finish(stage: Stage, config: { batchSize: number }): Promise<void> {
  const survivor = stage.start({ config });
  await stage.drained();
  await survivor[Symbol.asyncDispose]();
}

describe.each(scenarios.flatMap((scenario) => STORES.map((store) => ({ scenario, store }))))(
  "$scenario.name $store.name",
  ({ scenario, store }) => {
    it("survive a death at each moment", async () => {
      // Two moments a call, before and after its effect; fewer would mean that the harness does not reach into the flush.
      expect(await surviveEach(scenario, store, [])).toBeGreaterThan(20);
    });

    it("survive a death at each moment of the takeover after a death in a flush", async () => {
      // The first consumer dies with its first batch inserted and not committed: an odd moment follows a call's effect.
      const first = await momentOfInsert(scenario, store);
      expect(await surviveEach(scenario, store, [first])).toBeGreaterThan(15);
    });

    it("survive three deaths at random moments", async () => {
      const random = createRandom(SEED);
      for (let round = 0; round < store.randomRounds; round++) {
        const deaths = Array.from({ length: 3 }, () => random.integer(0, 39));
        await survive(scenario, store, deaths).catch((error: unknown) => {
          throw new Error(`with SEED=${SEED}, deaths at ${deaths.join()}`, { cause: error });
        });
      }
    });
  },
);

/** The moment after the first insert of rows took effect. */
async function momentOfInsert(scenario: Scenario, store: Store): Promise<number> {
  const run = ++runs;
  await using stage = await createStage(store.warehouse(), { epoch: `deaths-${run}` });
  await stage.append(...scenario.records(run));
  const mortal = createMortal(-1);
  let moment = 0;
  const probe = (inner: Warehouse): Warehouse => {
    const counted = mortal.options.warehouse(inner);
    return {
      ...counted,
      insert(options) {
        moment ||= mortal.moments() + 1;
        return counted.insert(options);
      },
    };
  };
  const consumer = stage.start({ config: { batchSize: scenario.batchSize }, ...mortal.options, warehouse: probe });
  await stage.drained();
  await consumer[Symbol.asyncDispose]();
  return moment;
}

it("a commit names the range in flight while it is", async () => {
  await using stage = await createStage(warehouse, { epoch: "marker" });
  await stage.append(...plain(3));
  const seen: string[] = [];
  stage.start({
    warehouse: (inner) => ({
      ...inner,
      async insert(options) {
        const commit = (await stage.log.committed(EVENTS_TOPIC, CONSUMER_GROUP)).get(0);
        if (options.table === "events_raw") seen.push(`${commit?.offset} ${commit?.metadata}`);
        await inner.insert(options);
      },
    }),
  });
  await stage.drained();
  expect(seen).toEqual(['0 {"epoch":"marker","to":2,"wait":10,"why":"idle"}']);
});
