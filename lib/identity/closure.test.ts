import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { closureOf, FROZEN_VERSION, followLinks, type Link, type PeopleStore, updatePeople } from "./closure.ts";
import type { Edge, EdgeKind } from "./facts.ts";
import { resolveIds } from "./resolve.ts";

const NO_BOUND = Number.MAX_SAFE_INTEGER;

interface MemoryStore extends PeopleStore {
  add(edges: readonly Edge[]): void;
  /** Ids that do not stand for themselves. */
  overrides(): Map<string, string>;
  readonly looks: () => number;
  readonly rows: () => number;
}

/** What ClickHouse keeps: edges that only grow in number, and of each id the row with the highest version. */
function createStore(pass: () => Promise<void> = async () => {}): MemoryStore {
  const stored: Edge[] = [];
  const rows = new Map<string, { person: string; version: number }>();
  let looks = 0;
  return {
    add: (edges) => void stored.push(...edges),
    overrides: () =>
      new Map([...rows].filter(([id, { person }]) => id !== person).map(([id, row]) => [id, row.person])),
    looks: () => looks,
    rows: () => rows.size,
    async version() {
      await pass();
      return stored.length;
    },
    async edgesOf(ids) {
      looks++;
      await pass();
      return stored.filter(({ id, other }) => ids.includes(id) || ids.includes(other));
    },
    async relativesOf(ids) {
      await pass();
      const people = ids.map((id) => rows.get(id)?.person ?? id);
      return [...rows].filter(([, { person }]) => people.includes(person)).map(([id]) => id);
    },
    async frozenOf(ids) {
      await pass();
      const found = ids.flatMap((id): [string, string][] => {
        const row = rows.get(id);
        return row?.version === FROZEN_VERSION ? [[id, row.person]] : [];
      });
      return new Map(found);
    },
    async write(people, version) {
      await pass();
      for (const [id, person] of people) {
        // As ReplacingMergeTree: of equal versions the later row.
        if (version >= (rows.get(id)?.version ?? 0)) rows.set(id, { person, version });
      }
    },
  };
}

function overridesOf(edges: readonly Edge[]): Map<string, string> {
  return new Map([...resolveIds(edges)].filter(([id, person]) => id !== person));
}

const sorted = (map: Map<string, string>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
const linksOf = (edges: readonly Edge[]) => edges.map(({ id, other }): Link => [id, other]);
const namesOf = (edges: readonly Edge[]) => edges.flatMap(({ id, other }) => [id, other]);

const eventId = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;
const name = fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h", "i", "j");
const anyEdge = fc
  .record({
    kind: fc.constantFrom<EdgeKind>("identify", "identify", "identify", "alias", "merge"),
    id: name,
    other: name,
    isTrusted: fc.boolean(),
    timeUs: fc.nat(9),
    event: fc.nat(99),
  })
  .filter(({ id, other }) => id !== other)
  .map(
    ({ kind, id, other, isTrusted, timeUs, event }): Edge => ({
      ...{ kind, id, other, timeUs, eventId: eventId(event) },
      trusted: isTrusted || kind === "merge",
    }),
  );

/** Said by anybody: no joins of known people. */
const weakEdge = anyEdge.filter(({ kind }) => kind !== "merge").map((edge): Edge => ({ ...edge, trusted: false }));

describe("updating people as edges come in", () => {
  it("ends where resolving all of them at once does, for any batches in any order", async () => {
    const batches = fc.array(fc.array(anyEdge, { minLength: 1, maxLength: 4 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(batches, async (all) => {
        const store = createStore();
        for (const batch of all) {
          store.add(batch);
          await followLinks(linksOf(batch), store, NO_BOUND);
        }
        expect(sorted(store.overrides())).toEqual(sorted(overridesOf(all.flat())));
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    ["anybody and trusted callers say", anyEdge],
    ["anybody says", weakEdge],
  ])(
    "ends there with several writers at once, in any interleaving, with zombies that do their work again, of what %s",
    async (_, edge) => {
      const writers = fc.array(fc.array(fc.array(edge, { minLength: 1, maxLength: 3 }), { maxLength: 4 }), {
        minLength: 2,
        maxLength: 3,
      });
      await fc.assert(
        fc.asyncProperty(writers, fc.nat(3), fc.scheduler(), async (queues, zombie, scheduler) => {
          const store = createStore(() => scheduler.schedule(Promise.resolve()));
          const work = async (queue: Edge[][]) => {
            for (const batch of queue) {
              await scheduler.schedule(Promise.resolve());
              store.add(batch);
              await followLinks(linksOf(batch), store, NO_BOUND);
            }
          };
          const running = Promise.all([...queues, queues[zombie] ?? []].map(work));
          await scheduler.waitFor(running);
          expect(sorted(store.overrides())).toEqual(sorted(overridesOf(queues.flat(2))));
        }),
        { numRuns: 1000 },
      );
    },
  );

  it("writes a person's unchanged ids as well, so that a slower writer's older view does not win", async () => {
    const store = createStore();
    const first: Edge = { kind: "identify", id: "u1", other: "a", trusted: false, timeUs: 5, eventId: eventId(1) };
    store.add([first]);
    const slowVersion = await store.version();
    store.add([{ ...first, id: "u2", timeUs: 9, eventId: eventId(2) }]);
    await updatePeople(["u2", "a"], store, NO_BOUND);
    await store.write(new Map([["a", "u0"]]), slowVersion);
    expect(store.overrides()).toEqual(new Map([["a", "u1"]]));
  });
});

describe("what is written", () => {
  const claim = (n: number, id: string, other: string): Edge => ({
    ...{ kind: "alias", id, other, trusted: false, timeUs: n, eventId: eventId(n) },
  });
  const tree = Array.from({ length: 2000 }, (_, n) =>
    n < 50 ? claim(n, "root", `branch${n}`) : claim(n, `branch${n % 50}`, `leaf${n}`),
  );

  async function writtenFor(edge: Edge): Promise<number> {
    const store = createStore();
    store.add([...tree, edge]);
    return (await followLinks(linksOf([edge]), store, NO_BOUND)).written;
  }

  it("is what one more link changes, however many ids are one person already", async () => {
    expect(await writtenFor(claim(9000, "branch7", "new"))).toBe(2);
    expect(await writtenFor(claim(9000, "root", "new"))).toBe(2);
    expect(await writtenFor({ ...claim(9000, "leaf99", ""), kind: "identify" })).toBe(1);
    expect(await writtenFor(claim(0, "other", "branch7"))).toBe(41);
  });

  it("is the whole person where known people are joined, or the links are not known", async () => {
    expect(await writtenFor({ ...claim(9000, "root", "new"), trusted: true })).toBe(2002);
    const store = createStore();
    store.add([...tree, claim(9000, "root", "new")]);
    const { ids } = await updatePeople(["root", "new"], store, NO_BOUND);
    expect(ids.size).toBe(2002);
    expect(store.rows()).toBe(2002);
  });
});

describe("the walk", () => {
  const chain = Array.from({ length: 300 }, (_, n): Edge => {
    const moment = { timeUs: n, eventId: eventId(n) };
    return { kind: "merge", id: `m${n}`, other: `m${n + 1}`, trusted: true, ...moment };
  });

  it("takes a long chain that is known in few steps", async () => {
    const store = createStore();
    store.add(chain);
    await updatePeople(namesOf(chain), store, NO_BOUND);
    const before = store.looks();
    const { ids } = await updatePeople(["m300"], store, NO_BOUND);
    expect(ids.size).toBe(301);
    expect(store.looks() - before).toBeLessThan(12);
  });

  it("ends at its bound, and says so", async () => {
    const store = createStore();
    store.add(chain);
    const cut = await closureOf(["m0"], store, 10);
    expect(cut.ids.size).toBe(10);
    expect(cut.isCut).toBe(true);
    expect((await closureOf(["m0"], store, 301)).isCut).toBe(false);
  });
});

describe("a component that has grown beyond reason", () => {
  const MAX = 20;
  const claim = (n: number, id: string, other: string): Edge => ({
    ...{ kind: "alias", id, other, trusted: false, timeUs: n, eventId: eventId(n) },
  });
  /** A tree of a hundred ids, every one of which is claimed by another. */
  const giant = Array.from({ length: 100 }, (_, n) => claim(n, `g${n >> 2}`, `g${n + 1}`));
  /** Forty people of three ids each. */
  const people = Array.from({ length: 40 }, (_, n) => [
    claim(500 + n, `p${n}`, `p${n}a`),
    { ...claim(600 + n, `p${n}a`, `p${n}b`), kind: "identify" as const },
  ]).flat();

  async function follow(store: MemoryStore, batches: readonly (readonly Edge[])[]) {
    const frozen: number[] = [];
    for (const batch of batches) {
      store.add(batch);
      const followed = await followLinks(linksOf(batch), store, MAX);
      frozen.push(...followed.frozen.map(({ ids }) => ids));
    }
    return frozen;
  }

  it("changes nobody else, whatever comes in which order and together with what", async () => {
    const expected = sorted(overridesOf(people));
    const shuffled = fc.shuffledSubarray([...giant, ...people], { minLength: giant.length + people.length });
    await fc.assert(
      fc.asyncProperty(shuffled, fc.integer({ min: 1, max: 200 }), async (edges, size) => {
        const store = createStore();
        const batches = Array.from({ length: Math.ceil(edges.length / size) }, (_, n) =>
          edges.slice(n * size, (n + 1) * size),
        );
        await follow(store, batches);
        expect(sorted(store.overrides()).filter(([id]) => id.startsWith("p"))).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  it("is frozen once: its ids keep their person, one that they claim joins them, and no walk goes there again", async () => {
    const store = createStore();
    expect(
      await follow(
        store,
        giant.map((edge) => [edge]),
      ),
    ).toEqual([MAX]);
    const before = new Map(sorted(store.overrides()));
    expect(before.get("g7")).toBe("g0");
    const looks = store.looks();
    const later = [
      claim(900, "g7", "late"),
      claim(901, "stranger", "g0"),
      claim(902, "g0", "g7"),
      claim(903, "late", "later"),
    ];
    expect(
      await follow(
        store,
        later.map((edge) => [edge]),
      ),
    ).toEqual([]);
    expect(store.looks() - looks).toBeLessThan(3 * later.length);
    const after = new Map([...before, ["late", "g0"], ["later", "g0"]]);
    expect(sorted(store.overrides())).toEqual(sorted(after));
  });
});
