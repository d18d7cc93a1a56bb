// The same facts in any order, over any partitions, in any batches, by consumers that come and go: the same people.
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createMortal, createStage, idOf, type Stage } from "../kit/consumer.ts";
import { expectedPeople, recordOf, resolved, type Said, shownPeople } from "../kit/identity.ts";
import { createRandom, type Random } from "../kit/random.ts";

let clickhouse: TestClickHouse;
let warehouse: Warehouse;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("interleavings");
  warehouse = clickhouse.warehouse("interleavings");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const RUNS = 50;
const EVENTS = 40;
const NAMES = Array.from({ length: 9 }, (_, n) => `id${n}`);

/** Sets and unsets of few keys, identities of few ids, so that everything meets. */
function randomSaid(run: number, random: Random): Said[] {
  const idIn = () => `${run}/${random.pick(NAMES)}`;
  return Array.from({ length: EVENTS }, (_, n): Said => {
    const said = { distinctId: idIn(), id: idOf(run * EVENTS + n), at: random.integer(0, 19) };
    const event = random.pick(["$identify", "$identify", "$create_alias", "$merge_dangerously", "$set", "seen"]);
    const $set = { [random.pick(["k", "l"])]: n };
    const properties: Record<string, Record<string, unknown>> = {
      $identify: { $anon_distinct_id: idIn(), $set_once: $set },
      $create_alias: { alias: idIn() },
      $merge_dangerously: { alias: idIn() },
      $set: random.pick([{ $set }, { $unset: Object.keys($set) }, { $set_once: $set }]),
    };
    return { ...said, event, properties: properties[event] ?? {}, trusted: random.next() < 0.15 };
  });
}

/** Deals the events out to the partitions in a random order, a few at a time. */
async function appendShuffled(stage: Stage, said: readonly Said[], random: Random): Promise<void> {
  const left = [...said];
  while (left.length > 0) {
    const some = Array.from({ length: Math.min(left.length, 1 + random.integer(0, 11)) }, () => {
      const [one] = left.splice(random.integer(0, left.length - 1), 1);
      return recordOf(one as Said, `key${random.integer(0, 63)}`);
    });
    await stage.append(...some);
    if (random.next() < 0.1) await stage.drained();
  }
}

it(`${RUNS} interleavings over four partitions and two consumers end with the people that the facts make`, async () => {
  await using stage = await createStage(warehouse, { partitions: 4, epoch: "e" });
  const random = createRandom(1);
  stage.start();
  stage.start();
  const all: Said[] = [];
  for (let run = 0; run < RUNS; run++) {
    const said = randomSaid(run, random);
    all.push(...said);
    await appendShuffled(stage, said, random);
    if (run % 10 === 9) await stage.log.rebalance();
  }
  await stage.drained();
  await resolved(warehouse);
  expect(await shownPeople(warehouse, "")).toEqual(expectedPeople(all));
  const parts = await warehouse.query("SELECT DISTINCT log_partition FROM identity_edges");
  expect(parts).toHaveLength(4);
});

it("a consumer killed at any moment of its work on identity leaves it to the next, who ends with the same people", async () => {
  const random = createRandom(2);
  for (let deathAt = 0; deathAt < 48; deathAt += 5) {
    const epoch = `death ${deathAt}`;
    await using stage = await createStage(warehouse, { epoch });
    const said = randomSaid(1000 + deathAt, random);
    await stage.append(...said.map((one) => recordOf(one)));
    const mortal = createMortal(deathAt);
    stage.start(mortal.options);
    await Promise.race([mortal.died, stage.drained().then(() => resolved(warehouse))]);
    mortal.kill();
    await stage.log.killConsumer(0);
    stage.start();
    await stage.drained();
    await resolved(warehouse);
    expect(await shownPeople(warehouse, `${1000 + deathAt}/`)).toEqual(expectedPeople(said));
  }
});
