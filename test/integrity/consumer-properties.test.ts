// Whatever happens to consumers, in whatever order, every record ends as what it must be, once. fast-check makes up what
// happens, its scheduler decides the order of all calls, pauses and deaths, and a failure is reported with seed and path:
// SEED=… REPLAY_PATH=… plays it again.
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { AppendRecord } from "#lib/eventlog/log.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { eventRecord, idOf, poisonRecord } from "../kit/consumer.ts";
import { createInterleaved, type InsertFault, type Interleaved } from "../kit/interleaved-consumers.ts";
import type { MemoryRow } from "../kit/memory-warehouse.ts";
import { createSwitches, type Safeguard } from "../kit/safeguards.ts";
import { checkTrace, type TraceOutcome } from "../kit/trace-checker.ts";

const time = vi.hoisted(() => ({
  pause: async (_ms: number, _signal: AbortSignal | undefined): Promise<void> => {},
}));

// The pauses of consumers are steps of the scheduler like everything else.
vi.mock("node:timers/promises", () => ({
  setTimeout: (ms: number, _value: unknown, options?: { signal?: AbortSignal }) => time.pause(ms, options?.signal),
}));

// It measures beside the work; its pauses would be half of all steps.
vi.mock("../../services/consumer/lag.ts", () => ({ watchLag: () => ({ moved() {}, [Symbol.dispose]() {} }) }));

beforeEach(() => {
  // What repeats by a timer does so when an action says it is time.
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  vi.spyOn(Math, "random").mockReturnValue(0.5);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const EPOCH = "e";
const STEPS_MAX = 20_000;
/** From its assignment to its first commit a partition takes some twenty steps. */
const STEPS_BETWEEN_MAX = 25;
/** Fewer than the rounds of repair a range gets, or a halt would be the right answer. */
const LOST_PARTS_MAX = 3;

type Kind = "plain" | "own id" | "flagged" | "poison" | "refused";
type Event = { kind: Kind; id: number };
type Action =
  | { do: "append"; events: Event[] }
  | { do: "start"; batchSize: number }
  | { do: "kill" | "freeze" | "thaw" | "stop"; process: number }
  | { do: "fail commit"; hasLanded: boolean }
  | { do: "rebalance" }
  | { do: "tick" };

const event: fc.Arbitrary<Event> = fc.record({
  kind: fc.constantFrom<Kind>("plain", "plain", "own id", "own id", "own id", "flagged", "poison", "refused"),
  id: fc.nat({ max: 3 }),
});
const start = fc.record({ do: fc.constant("start" as const), batchSize: fc.integer({ min: 1, max: 4 }) });
const append = fc.record({
  do: fc.constant("append" as const),
  events: fc.array(event, { minLength: 1, maxLength: 6 }),
});
const action: fc.Arbitrary<Action> = fc.oneof(
  { arbitrary: append, weight: 3 },
  { arbitrary: start, weight: 3 },
  {
    arbitrary: fc.record({
      do: fc.constantFrom("kill" as const, "freeze" as const, "thaw" as const, "stop" as const),
      process: fc.nat({ max: 4 }),
    }),
    weight: 6,
  },
  { arbitrary: fc.record({ do: fc.constant("fail commit" as const), hasLanded: fc.boolean() }), weight: 1 },
  { arbitrary: fc.constantFrom<Action>({ do: "rebalance" }, { do: "tick" }), weight: 2 },
);

interface Plan {
  partitions: number;
  first: [Extract<Action, { do: "append" }>, ...Action[]];
  /** Each after so many steps more. */
  actions: { after: number; action: Action }[];
  faults: InsertFault[];
  questions: boolean[];
}

const plan: fc.Arbitrary<Plan> = fc.record({
  partitions: fc.integer({ min: 1, max: 2 }),
  first: fc.tuple(append, start, start),
  actions: fc.array(fc.record({ after: fc.nat({ max: STEPS_BETWEEN_MAX }), action }), { maxLength: 12 }),
  faults: fc
    .array(fc.constantFrom<InsertFault>("none", "none", "answer lost", "not arrived", "part lost"), { maxLength: 10 })
    .filter((faults) => faults.filter((fault) => fault === "part lost").length <= LOST_PARTS_MAX),
  questions: fc.array(fc.constantFrom(false, false, false, true), { maxLength: 30 }),
});

function recordOf({ kind, id }: Event): AppendRecord {
  // One key an id: its retries come to the partition of the first.
  const own = { id: idOf(id), key: `k${id}` };
  switch (kind) {
    case "plain":
      return eventRecord({ key: `k${id}` });
    case "own id":
      return eventRecord(own);
    case "flagged":
      return eventRecord({ ...own, checkStored: true });
    case "refused":
      return eventRecord({ ...own, event: "refused" });
    case "poison":
      return { ...poisonRecord, key: Buffer.from(`k${id}`) };
  }
}

function act(stage: Interleaved, one: Action): void {
  if (one.do === "append") stage.append(one.events.map(recordOf));
  else if (one.do === "start") stage.start(one.batchSize);
  else if (one.do === "fail commit") stage.failNextCommit(one.hasLanded);
  else if (one.do === "rebalance") stage.rebalance();
  else if (one.do === "tick") vi.advanceTimersByTime(10_000);
  else stage.processes[one.process % stage.processes.length]?.[one.do]();
}

/** Runs the plan in the scheduler's order, then lets one healthy consumer finish, and checks what is stored. */
async function play(scheduler: fc.Scheduler, { first, actions, ...given }: Plan, off?: Safeguard) {
  vi.clearAllTimers();
  const step = (label: string) => scheduler.schedule(Promise.resolve(), label);
  const isRefused = (row: MemoryRow) => row.event === "refused";
  const switches = createSwitches(off);
  const stage = await createInterleaved({ ...given, epoch: EPOCH, switches, isRefused, step });
  time.pause = stage.pause;

  for (const one of first) act(stage, one);
  for (const { after, action } of actions) {
    for (let steps = 0; steps < after; steps++) await takeStep(scheduler);
    act(stage, action);
  }
  stage.killAll();
  stage.start(3);
  await runUntil(scheduler, () => stage.isDrained(), stage);
  // What the dead have sent arrives at last.
  stage.end();
  await scheduler.waitIdle();
  check(stage);
}

async function runUntil(scheduler: fc.Scheduler, isDone: () => boolean, { errors }: Interleaved): Promise<void> {
  await settled();
  for (let steps = 0; !isDone(); steps++) {
    if (!(await takeStep(scheduler)) || steps > STEPS_MAX) {
      throw new Error(`stands still after ${steps} steps: ${errors}`);
    }
  }
}

/** False when nobody waits for one. */
async function takeStep(scheduler: fc.Scheduler): Promise<boolean> {
  if (scheduler.count() === 0) await settled();
  if (scheduler.count() === 0) return false;
  await scheduler.waitNext(1);
  return true;
}

/** Everything has happened that needs no further step. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Each offset's one fate follows from the log alone; it must be the only one that is stored. */
function check({ log, warehouse, errors }: Interleaved): void {
  // Such as a question that the warehouse in memory has not learned.
  expect(errors.filter((line) => line.includes("TypeError"))).toEqual([]);
  const expected = new Map<string, string>();
  const rowsOfId = new Map<string, { at: string; event: string }>();
  const acked = log.appends.map(({ partition, offset, value }) => {
    const at = `${partition}:${offset}`;
    if (Buffer.from(value).equals(poisonRecord.value)) {
      expected.set(at, "dead_letter");
      return { partition, offset };
    }
    const record = decodeRecord(value);
    const id = record.idFromCaller ? `${record.apiKey} ${formatUuid(record.id)}` : undefined;
    const row = id === undefined ? undefined : rowsOfId.get(id);
    // All that these records can differ in is their name.
    if (row) expected.set(at, `${row.event === record.event ? "duplicate" : "conflict"} of ${row.at}`);
    else if (record.event === "refused") expected.set(at, "dead_letter");
    else expected.set(at, "row");
    if (id !== undefined && expected.get(at) === "row") rowsOfId.set(id, { at, event: record.event });
    return { partition, offset, id };
  });

  const place = (row: MemoryRow) => ({
    epoch: String(row.log_epoch),
    partition: Number(row.log_partition),
    offset: Number(row.log_offset),
  });
  const rows = warehouse.rowsOf("events_raw").map((row) => ({
    ...place(row),
    id: row.uuid_from_caller === 1 ? `${row.api_key} ${row.uuid}` : undefined,
  }));
  const outcomes: TraceOutcome[] = warehouse
    .rowsOf("log_outcomes")
    .map((row) => ({ ...place(row), outcome: String(row.outcome), detail: String(row.detail) }));
  const letters = warehouse.rowsOf("dead_letters").map(place);
  expect(checkTrace({ epoch: EPOCH, acked, rows, outcomes, letters })).toEqual({
    lost: [],
    unaccounted: [],
    doubled: [],
    doubledIds: [],
    foreign: [],
    disordered: [],
    lostLetters: [],
  });
  const found = new Map<string, string>();
  for (const { partition, offset } of rows) found.set(`${partition}:${offset}`, "row");
  for (const { partition, offset, outcome, detail } of outcomes) {
    found.set(`${partition}:${offset}`, detail.includes(":") ? `${outcome} of ${detail}` : outcome);
  }
  expect(Object.fromEntries([...found].sort())).toEqual(Object.fromEntries([...expected].sort()));
}

const property = (off?: Safeguard) =>
  fc.asyncProperty(fc.scheduler(), plan, (scheduler, whatHappens) => play(scheduler, whatHappens, off));

describe("consumers that die, freeze, stop and lose their partitions at any await", () => {
  it("store every record once", async () => {
    const { SEED, REPLAY_PATH } = process.env;
    await fc.assert(property(), {
      numRuns: Number(process.env.RUNS ?? 400),
      ...(SEED === undefined ? {} : { seed: Number(SEED) }),
      ...(REPLAY_PATH === undefined ? {} : { path: REPLAY_PATH }),
    });
  });

  // The deadline is not among them: it takes a warehouse that forgets tokens, see safeguards.test.ts.
  // Each of token and question holds alone in nearly every run: safeguards.test.ts switches them off one by one.
  it.each<Safeguard>(["token and ask", "marker", "fence", "count"])("do not, with the %s switched off", async (off) => {
    const { failed, errorInstance } = await fc.check(property(off), { seed: 4, numRuns: 1000, endOnFailure: true });
    expect(failed).toBe(true);
    expect(String(errorInstance)).toContain("to deeply equal");
  });
});
