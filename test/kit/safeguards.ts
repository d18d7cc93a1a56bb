// Switches that turn one safeguard of the consumer off, by wrapping the ports it is given: production code knows nothing of
// them. What a test finds with one of them off is what that safeguard is for, and shows that the test can fail.
import { type Assignment, AssignmentLostError, type Commit, type OpenLog } from "#lib/eventlog/log.ts";
import type { Fate } from "#lib/ledger/stored.ts";
import type { Clock } from "#lib/process/clock.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { withAssignments } from "./consumer.ts";

/**
 * token: each insert has a token of its own, so that a repeated one counts again.
 * marker: commits do not say which range is in flight.
 * fence: an assignment works on after it was lost, and is not told; the log does not wait for it.
 * deadline: time does not pass while a process is frozen, so that its marker always looks fresh.
 * ask: the first question about a range after an insert that nobody answered is answered with "nothing of it is stored".
 * count: when ClickHouse is asked about a range a second time, "all of it is stored" is answered in its place.
 */
export type Safeguard = "token" | "marker" | "fence" | "deadline" | "ask" | "count" | "token and ask";

/** What a consumer is given in place of its own ports. Shared by all consumers of a scenario. */
export interface Switches {
  warehouse(inner: Warehouse): Warehouse;
  log(inner: OpenLog): OpenLog;
  clock(inner: Clock): Clock;
}

/** Everything on but `off`; everything on when that is undefined. */
export function createSwitches(off: Safeguard | undefined): Switches {
  const none = <T>(inner: T) => inner;
  const allOn: Switches = { warehouse: none, log: none, clock: none };
  switch (off) {
    case "token":
      return { ...allOn, warehouse: freshTokens() };
    case "marker":
      return { ...allOn, log: withoutMarkers };
    case "fence":
      return { ...allOn, log: unfenced() };
    case "deadline":
      return { ...allOn, clock: standingStill };
    case "ask":
      return { ...allOn, warehouse: sendingAgainBlindly };
    case "count":
      return { ...allOn, warehouse: believing() };
    case "token and ask":
      return { ...allOn, warehouse: together(sendingAgainBlindly, freshTokens()) };
    case undefined:
      return allOn;
  }
}

function together(first: Switches["warehouse"], second: Switches["warehouse"]): Switches["warehouse"] {
  return (inner) => second(first(inner));
}

function freshTokens(): Switches["warehouse"] {
  let inserts = 0;
  return (inner) => ({
    ...inner,
    insert: (options) => inner.insert({ ...options, token: `${options.token}#${inserts++}` }),
  });
}

/** The offset and its epoch stay: what is missing is only how far the range reached. */
function withoutMarkers(inner: OpenLog): OpenLog {
  const strip = ({ offset, metadata }: Commit): Commit => {
    const { to: _, ...rest } = JSON.parse(metadata) as Record<string, unknown>;
    return { offset, metadata: JSON.stringify(rest) };
  };
  return withAssignments((held) => ({ ...held, commit: (commit) => held.commit(strip(commit)) }))(inner);
}

/** What kafkajs does: commits of a lost assignment are sent under whichever one the group has now. */
function unfenced(): Switches["log"] {
  const newest = new Map<number, Assignment>();
  return (inner) => ({
    ...inner,
    consume: (options) =>
      inner.consume({
        ...options,
        onAssigned(assignment) {
          newest.set(assignment.partition, assignment);
          const work = options.onAssigned(regardless(assignment, inner, options.group, newest));
          return Promise.race([work, lossOf(assignment)]);
        },
      }),
  });
}

function regardless(
  held: Assignment,
  log: OpenLog,
  group: string,
  newest: ReadonlyMap<number, Assignment>,
): Assignment {
  const { topic, partition } = held;
  async function orElse<T>(call: Promise<T>, instead: () => Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      if (!(error instanceof AssignmentLostError)) throw error;
      return instead();
    }
  }
  return {
    topic,
    partition,
    lost: new AbortController().signal,
    committed: () => orElse(held.committed(), async () => (await log.committed(topic, group)).get(partition)),
    commit: (commit) => orElse(held.commit(commit), () => (newest.get(partition) ?? held).commit(commit)),
    bounds: () =>
      orElse(
        held.bounds(),
        async () => (await log.bounds(topic)).find((one) => one.partition === partition) ?? held.bounds(),
      ),
    read: (options) => orElse(held.read(options), () => log.tail(topic, partition, options)),
    topicId: () => orElse(held.topicId(), () => log.topicId(topic)),
  };
}

function lossOf({ lost }: Assignment): Promise<void> {
  return new Promise((resolve) => {
    if (lost.aborted) resolve();
    else lost.addEventListener("abort", () => resolve(), { once: true });
  });
}

const STEP_MS_MAX = 100;

/** As a clock that stops while its machine is suspended: no two readings are further apart than a moment. */
function standingStill(inner: Clock): Clock {
  let last = inner.monotonicMs();
  let shown = 0;
  return {
    nowMs: () => inner.nowMs(),
    monotonicMs() {
      const now = inner.monotonicMs();
      shown += Math.min(now - last, STEP_MS_MAX);
      last = now;
      return shown;
    },
  };
}

/** As a consumer that repeats an insert because it had no answer, and trusts ClickHouse to know its token. */
function sendingAgainBlindly(inner: Warehouse): Warehouse {
  let isInDoubt = false;
  return {
    ...inner,
    async insert(options) {
      try {
        await inner.insert(options);
      } catch (error) {
        isInDoubt = true;
        throw error;
      }
    },
    async query<Row>(sql: string, options?: Parameters<Warehouse["query"]>[1]): Promise<Row[]> {
      const rows = await inner.query<Row>(sql, options);
      if (!isInDoubt || !sql.includes("AS f FROM log_outcomes")) return rows;
      isInDoubt = false;
      return [];
    },
  };
}

/** Tells the question after the insert from the one before by asking only once for each range. */
function believing(): Switches["warehouse"] {
  const asked = new Set<string>();
  return (inner) => ({
    ...inner,
    async query<Row>(sql: string, options?: Parameters<Warehouse["query"]>[1]): Promise<Row[]> {
      const { from, to } = options?.params ?? {};
      if (!sql.includes("AS f FROM log_outcomes") || typeof from !== "number" || typeof to !== "number") {
        return inner.query<Row>(sql, options);
      }
      const range = JSON.stringify(options?.params);
      if (!asked.has(range)) {
        asked.add(range);
        return inner.query<Row>(sql, options);
      }
      const row = (_: unknown, at: number): { o: string; f: Fate } => ({ o: String(from + at), f: "row" });
      return Array.from({ length: to - from + 1 }, row) as Row[];
    },
  });
}
