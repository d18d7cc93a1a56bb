import { describe, expect, it } from "vitest";
import type { Commit } from "#lib/eventlog/log.ts";
import { createStoredWatch, lastOf, type StoredWatchOptions } from "./stored-watch.ts";

function setUp(options: Partial<StoredWatchOptions> = {}) {
  const commits = new Map<number, Commit>();
  let questions = 0;
  const stopping = new AbortController();
  const watch = createStoredWatch({
    ...{ intervalMs: 1, maxMs: 60_000, maxWaiting: 10, signal: stopping.signal },
    committed() {
      questions++;
      return Promise.resolve(commits);
    },
    ...options,
  });
  const commit = (partition: number, offset: number) => commits.set(partition, { offset, metadata: "" });
  return { watch, commit, stopping, questions: () => questions };
}

describe("a caller hears that its events are stored", () => {
  it("once the commits of all partitions are beyond them", async () => {
    const { watch, commit, questions } = setUp();
    let isStored: boolean | undefined;
    const asked = watch.untilStored([
      { partition: 0, offset: 4 },
      { partition: 2, offset: 9 },
    ]);
    void asked.then((answer) => {
      isStored = answer;
    });
    commit(0, 5);
    commit(2, 9);
    const before = questions();
    await expect.poll(questions).toBeGreaterThan(before + 2);
    expect(isStored).toBeUndefined();
    commit(2, 10);
    expect(await asked).toBe(true);
  });

  it("by one question for all, and none when nobody waits", async () => {
    const { watch, commit, questions } = setUp({ intervalMs: 5 });
    commit(0, 1);
    const all = Array.from({ length: 10 }, () => watch.untilStored([{ partition: 0, offset: 0 }]));
    expect(await Promise.all(all)).toEqual(Array(10).fill(true));
    expect(questions()).toBeLessThanOrEqual(2);
    const asked = questions();
    expect(await watch.untilStored([])).toBe(true);
    expect(questions()).toBe(asked);
    expect(await watch.untilStored([{ partition: 0, offset: 0 }])).toBe(true);
  });

  it("also when the log did not answer at first", async () => {
    let turn = 0;
    const { watch } = setUp({
      committed: () =>
        turn++ === 0 ? Promise.reject(new Error("away")) : Promise.resolve(new Map([[0, { offset: 1, metadata: "" }]])),
    });
    expect(await watch.untilStored([{ partition: 0, offset: 0 }])).toBe(true);
  });
});

describe("a caller hears that it is not known", () => {
  const never = { partition: 0, offset: 0 };

  it("after its time, however slow the log", async () => {
    const { watch } = setUp({ maxMs: 20, committed: () => new Promise(() => {}) });
    expect(await watch.untilStored([never])).toBe(false);
    expect(await watch.untilStored([never])).toBe(false);
  });

  it("at once when too many wait", async () => {
    const { watch, commit } = setUp({ maxWaiting: 1 });
    const first = watch.untilStored([never]);
    expect(await watch.untilStored([never])).toBe(false);
    commit(0, 1);
    expect(await first).toBe(true);
  });

  it("when the gateway stops", async () => {
    const { watch, stopping } = setUp();
    const asked = watch.untilStored([never]);
    stopping.abort();
    expect([await asked, await watch.untilStored([never])]).toEqual([false, false]);
  });
});

it("the last position in each partition counts", () => {
  const positions = [
    { partition: 3, offset: 5 },
    { partition: 1, offset: 0 },
    { partition: 3, offset: 4 },
  ];
  expect(lastOf(positions)).toEqual([positions[1], positions[0]]);
  expect(lastOf([])).toEqual([]);
});
