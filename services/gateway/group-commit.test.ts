import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { AppendRecord, OnSettled } from "#lib/eventlog/log.ts";
import { LogUnavailableError, type Position, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";
import { atMost } from "../../test/kit/patience.ts";
import { createGroupCommit, type FailedRange, type GroupCommitOptions } from "./group-commit.ts";

const record = (name: string, bytes = 10): AppendRecord => ({
  key: Buffer.from(name),
  value: Buffer.alloc(bytes, name.slice(0, 1) || "x"),
});
const records = (count: number, bytes = 10) => Array.from({ length: count }, (_, i) => record(String(i), bytes));
const names = (group: readonly AppendRecord[]) => group.map(({ key }) => Buffer.from(key).toString());

type Append = (group: AppendRecord[], onSettled: OnSettled) => Promise<unknown>;

/** What is appended has the offset of its place among all that ever was. */
function setUp({ append, ...options }: Partial<Omit<GroupCommitOptions, "append">> & { append?: Append } = {}) {
  const groups: AppendRecord[][] = [];
  let end = 0;
  const commit = createGroupCommit({
    lingerMs: 1,
    maxRecords: 100,
    maxBytes: 100_000,
    waitMsMax: 1_000,
    appendMsMax: 1_000,
    async append(group, onSettled) {
      groups.push(group);
      const positions = await append?.(group, onSettled);
      return Array.isArray(positions) ? positions : group.map(() => ({ partition: 0, offset: end++ }));
    },
    ...options,
  });
  return { commit, groups };
}

describe("group commit", () => {
  it("appends submissions of one moment as one group, in order", async () => {
    const { commit, groups } = setUp();
    const fates = await Promise.all(["a", "b", "c"].map((name) => commit.submit([record(name), record(`${name}2`)])));
    expect(fates).toEqual([[], [], []]);
    expect(groups.map(names)).toEqual([["a", "a2", "b", "b2", "c", "c2"]]);
  });

  it("splits a submission larger than a group, and settles it when its last part is durable", async () => {
    const { commit, groups } = setUp();
    expect(await commit.submit(records(250))).toEqual([]);
    expect(groups.map((group) => group.length)).toEqual([100, 100, 50]);
    expect(groups.flatMap(names)).toEqual(names(records(250)));
  });

  it("keeps a group below its bytes, unless a single record exceeds them", async () => {
    const { commit, groups } = setUp({ maxBytes: 1_000 });
    await Promise.all([commit.submit(records(20, 300)), commit.submit([record("large", 5_000)])]);
    for (const group of groups) {
      const bytes = group.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
      expect(group.length === 1 || bytes <= 1_000).toBe(true);
    }
    expect(groups.flat().length).toBe(21);
  });

  it("appends nothing for nothing", async () => {
    const { commit, groups } = setUp();
    expect(await commit.submit([])).toEqual([]);
    expect(groups).toEqual([]);
  });

  it("has one append in flight at a time", async () => {
    let inFlight = 0;
    const { commit } = setUp({
      maxRecords: 3,
      async append() {
        expect(++inFlight).toBe(1);
        await new Promise((resolve) => setImmediate(resolve));
        inFlight--;
      },
    });
    await Promise.all(Array.from({ length: 20 }, () => commit.submit(records(2))));
  });

  it("settles a part of an append when its fate is known, and begins the next after its pace", async () => {
    const settled: OnSettled[] = [];
    const first = Promise.withResolvers<Position[]>();
    const { commit } = setUp({
      paceMs: 5,
      append(group, onSettled) {
        settled.push(onSettled);
        const positions = group.map((_, offset) => ({ partition: 1, offset }));
        return settled.length === 1 ? first.promise : Promise.resolve(positions);
      },
    });
    const [held, living] = [commit.submit([record("held")]), commit.submit([record("living")])];
    await expect.poll(() => settled.length).toBe(1);
    const told: Position[] = [];
    const mixed = commit.submit(records(3), (positions) => told.push(...positions));
    expect(await mixed).toEqual([]); // The first append has no answer yet.
    expect(told).toHaveLength(3);
    settled[0]?.([1], [undefined as never, { partition: 0, offset: 7 }]);
    expect(await living).toEqual([]);
    const away = new LogUnavailableError("a partition is away");
    settled[0]?.([0], [away]);
    expect(await held).toEqual([{ from: 0, to: 1, error: away }]);
    first.reject(new PartialAppendError("some", [away, { partition: 0, offset: 7 }], away));
    expect(await commit.submit(records(1))).toEqual([]);
  });

  it("has one append in flight at a time while the log is away, whatever the pace, and not when a part of it is", async () => {
    const appends: PromiseWithResolvers<void>[] = [];
    const { commit } = setUp({
      paceMs: 1,
      append() {
        appends.push(Promise.withResolvers<void>());
        return appends.at(-1)?.promise as Promise<void>;
      },
    });
    const begun = async (n: number) => {
      await expect.poll(() => appends.length, { interval: 2 }).toBe(n);
      return appends[n - 1] as PromiseWithResolvers<void>;
    };
    void commit.submit(records(1));
    const first = await begun(1);
    void commit.submit(records(1));
    (await begun(2)).resolve(); // Durable since the first began: that one's failure is its own.
    await new Promise((resolve) => setTimeout(resolve, 5));
    first.reject(new LogUnavailableError("a partition is away"));
    void commit.submit(records(1));
    const third = await begun(3);
    void commit.submit(records(1));
    await begun(4);
    third.reject(new LogUnavailableError("away"));
    appends[3]?.reject(new LogUnavailableError("away"));
    const late = commit.submit(records(1));
    const fifth = await begun(5);
    const waiting = commit.submit(records(1));
    expect(await waiting).toHaveLength(1); // It waited for the fifth, for a tenth of the time.
    expect(appends).toHaveLength(5);
    fifth.resolve();
    expect(await late).toEqual([]);
  });

  it("tells exactly the ranges whose append failed, whatever fails", async () => {
    const submissions = fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(submissions, fc.array(fc.boolean(), { maxLength: 40 }), async (sizes, fails) => {
        const durable = new Set<AppendRecord>();
        let turn = 0;
        const { commit } = setUp({
          lingerMs: 0,
          maxRecords: 7,
          async append(group) {
            if (fails[turn++]) throw new LogUnavailableError("away");
            for (const each of group) durable.add(each);
          },
        });
        const sent = sizes.map((size) => records(size));
        const fates = await Promise.all(sent.map((each) => commit.submit(each)));
        for (const [i, submission] of sent.entries()) {
          const failed = (at: number) => (fates[i] as FailedRange[]).some(({ from, to }) => from <= at && at < to);
          for (const [at, each] of submission.entries()) expect(failed(at)).toBe(!durable.has(each));
        }
      }),
      { numRuns: 50 },
    );
  });

  it("tells exactly the records that an append did not take, whichever they are", async () => {
    const submissions = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(submissions, fc.array(fc.boolean(), { minLength: 1, maxLength: 30 }), async (sizes, takes) => {
        const durable = new Map<AppendRecord, Position>();
        let turn = 0;
        const { commit, groups } = setUp({
          lingerMs: 0,
          maxRecords: 7,
          async append(group) {
            const away = new LogUnavailableError("a partition is away");
            const outcomes = group.map((each, offset): Position | Error => {
              if (!takes[turn++ % takes.length]) return away;
              const position = { partition: groups.length, offset };
              durable.set(each, position);
              return position;
            });
            if (outcomes.includes(away)) throw new PartialAppendError("some are stored", outcomes, away);
            return outcomes;
          },
        });
        const sent = sizes.map((size) => records(size));
        const told = sent.map((): Position[] => []);
        const fates = await Promise.all(
          sent.map((each, i) => commit.submit(each, (positions) => told[i]?.push(...positions))),
        );
        for (const [i, submission] of sent.entries()) {
          const failed = (at: number) => (fates[i] as FailedRange[]).filter(({ from, to }) => from <= at && at < to);
          for (const [at, each] of submission.entries()) expect(failed(at)).toHaveLength(durable.has(each) ? 0 : 1);
          expect(told[i]).toEqual(submission.flatMap((each) => durable.get(each) ?? []));
        }
      }),
      { numRuns: 50 },
    );
  });

  it("of a partial append, one record too large is told as such, and a batch of several as unavailable", async () => {
    const alone = new RecordTooLargeError("a record");
    const batch = new RecordTooLargeError("one of these");
    const outcomes = [alone, { partition: 0, offset: 0 }, batch, batch];
    const { commit } = setUp({ append: () => Promise.reject(new PartialAppendError("some", outcomes, undefined)) });
    expect(await commit.submit(records(4))).toEqual([
      { from: 0, to: 1, error: alone },
      { from: 2, to: 4, error: expect.any(LogUnavailableError) as Error },
    ]);
  });

  it("does not take a record without an outcome for durable", async () => {
    const partial = new PartialAppendError("some", [{ partition: 0, offset: 0 }], undefined);
    const { commit } = setUp({ append: () => Promise.reject(partial) });
    expect(await commit.submit(records(3))).toMatchObject([{ from: 1, to: 3 }]);
  });

  it("lets a tenth of the time wait while the log is away, and all of it when it takes records again", async () => {
    const appends: PromiseWithResolvers<void>[] = [];
    const { commit } = setUp({
      waitMsMax: 400,
      append() {
        const append = Promise.withResolvers<void>();
        appends.push(append);
        return append.promise;
      },
    });
    const append = async (n: number) => {
      await expect.poll(() => appends.length, { interval: 2 }).toBe(n);
      return appends[n - 1] as PromiseWithResolvers<void>;
    };
    const waitMs = async () => {
      const begun = performance.now();
      expect(await commit.submit(records(1))).toHaveLength(1);
      return performance.now() - begun;
    };
    const away = new LogUnavailableError("away");
    void commit.submit(records(1));
    const first = await append(1);
    expect(await waitMs()).toBeGreaterThanOrEqual(400);
    void commit.submit(records(1));
    first.reject(away);
    const second = await append(2);
    expect(await waitMs()).toBeLessThan(atMost(200));
    void commit.submit(records(1));
    second.resolve();
    await append(3);
    expect(await waitMs()).toBeGreaterThanOrEqual(400);
    appends[2]?.resolve();
  });

  it("gives up an append that does not answer, and appends the next group", async () => {
    let hang = true;
    const { commit } = setUp({ appendMsMax: 30, append: () => (hang ? new Promise(() => {}) : Promise.resolve()) });
    const [failed] = await commit.submit(records(3));
    expect(failed).toMatchObject({ from: 0, to: 3, error: expect.any(LogUnavailableError) as Error });
    expect(failed?.error.message).toContain("within 30 ms");
    hang = false;
    expect(await commit.submit(records(3))).toEqual([]);
  });

  it("fails what has waited too long for its append to begin", async () => {
    const first = Promise.withResolvers<void>();
    const groups: string[][] = [];
    const waitMsMax = atMost(50);
    const { commit } = setUp({
      waitMsMax,
      append(group) {
        groups.push(names(group));
        return first.promise;
      },
    });
    const a = commit.submit([record("a")]);
    await expect.poll(() => groups.length).toBe(1);
    const b = commit.submit([record("b")]);
    const begun = performance.now();
    await expect.poll(() => performance.now() - begun).toBeGreaterThan(waitMsMax + 5);
    first.resolve();
    expect(await a).toEqual([]);
    expect(await b).toMatchObject([{ from: 0, to: 1, error: expect.any(LogUnavailableError) as Error }]);
    expect(groups).toEqual([["a"]]);
  });

  it("blames a record for its size only when it was alone", async () => {
    const { commit } = setUp({ append: () => Promise.reject(new RecordTooLargeError("too large")) });
    expect((await commit.submit(records(1)))[0]?.error).toBeInstanceOf(RecordTooLargeError);
    const [together] = await commit.submit(records(2));
    expect(together?.error).toBeInstanceOf(LogUnavailableError);
    expect(together?.error.message).toContain("max.message.bytes");
  });

  it("reports each append once with its records, value bytes and error", async () => {
    const seen: unknown[] = [];
    const away = new LogUnavailableError("away");
    let error: Error | undefined;
    const { commit } = setUp({
      append: () => (error ? Promise.reject(error) : Promise.resolve()),
      onAppend: (count, bytes, _seconds, failure) => seen.push([count, bytes, failure]),
    });
    await commit.submit(records(3, 7));
    error = away;
    await commit.submit(records(1, 5));
    expect(seen).toEqual([
      [3, 21, undefined],
      [1, 5, away],
    ]);
  });
});
