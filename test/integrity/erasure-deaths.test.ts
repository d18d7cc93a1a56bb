// A command that erases a person is killed, and run again.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { personIdOf } from "#lib/events/ids.ts";
import { isClean } from "#lib/identity/erasure/certificate.ts";
import { beginErasure, finishErasure } from "#lib/identity/erasure/erase.ts";
import { createErasures } from "#lib/identity/erasures.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { exactlyOnce } from "../kit/audit.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord } from "../kit/consumer.ts";
import { createScene, identify, merge, seen, set } from "../kit/erasure.ts";
import { expectedPeople, shownPeople } from "../kit/identity.ts";

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

describe("a command that dies", () => {
  it("after one of the changes it makes is finished by the next one", async () => {
    await using scene = await createScene(clickhouse, "deaths");
    const { stage, warehouse, told } = scene;
    stage.start();
    const linesOf = (n: number) => [
      identify(`u${n}`, `a${n}`),
      seen(`a${n}`),
      merge(`u${n}`, `v${n}`),
      set(`v${n}`, n),
    ];
    const letterOf = (n: number) => eventRecord({ distinctId: `u${n}`, timeUs: 1e17 });
    const changes = await changesOfOne();
    expect(changes).toBeGreaterThan(10);
    // Every fourth, for the time it takes, and the two after which an offset is two things at once. ALL_DEATHS=true: each.
    const isTried = (n: number) => process.env.ALL_DEATHS === "true" || n % 4 === 1 || n === 2 || n === 4;
    const deaths = Array.from({ length: changes }, (_, n) => n).filter(isTried);
    const everybody = [...deaths, changes];
    await scene.tell(...everybody.flatMap(linesOf));
    await stage.append(...everybody.map(letterOf));
    await scene.settled();

    // The last one stays.
    for (const n of deaths) {
      const dying = scene.deps({ warehouse: deadly(n) });
      const died = beginErasure(dying, personIdOf(`u${n}`)).then((erasure) => finishErasure(dying, erasure));
      await expect(died).rejects.toThrow("killed");
      expect(await scene.verify(), `after death ${n}`).toBe(true);
      const deps = scene.deps();
      const known = await createErasures(warehouse).newestOf(personIdOf(`u${n}`));
      const certificate = await finishErasure(deps, known ?? (await beginErasure(deps, personIdOf(`u${n}`))));
      expect({ n, clean: isClean(certificate), erased: certificate.erased }).toEqual({ n, clean: true, erased: 5 });
    }
    const gone = deaths.flatMap((n) => [`u${n}`, `a${n}`, `v${n}`]);
    const left = told.filter(({ distinctId }) => !gone.includes(distinctId));
    expect(await shownPeople(warehouse)).toEqual(expectedPeople(left));
    expect(await stage.audit()).toMatchObject(exactlyOnce({ rows: 4, deadLetters: 1 }));
    expect(await scene.verify()).toBe(true);

    /** A warehouse whose client is killed when the change of this number has taken effect. */
    function deadly(deathAt: number): Warehouse {
      let at = 0;
      const dieAt = async (change: () => Promise<void>) => {
        await change();
        if (at++ === deathAt) throw new Error("killed");
      };
      return {
        ...warehouse,
        command: (sql, options) => dieAt(() => warehouse.command(sql, options)),
        insert: (options) => dieAt(() => warehouse.insert(options)),
      };
    }

    async function changesOfOne(): Promise<number> {
      await scene.tell(...linesOf(-1));
      told.length = 0;
      await stage.append(letterOf(-1));
      await scene.settled();
      let count = 0;
      const counted: Warehouse = {
        ...warehouse,
        command: (sql, options) => warehouse.command(sql, options).finally(() => count++),
        insert: (options) => warehouse.insert(options).finally(() => count++),
      };
      const deps = scene.deps({ warehouse: counted });
      const certificate = await finishErasure(deps, await beginErasure(deps, personIdOf("u-1")));
      expect(isClean(certificate)).toBe(true);
      return count;
    }
  });
});
