// The clock that people set jumps: minutes back, hours forward, back to the truth.
import { setClock } from "../../test/kit/clock.ts";
import { drained } from "../watch.ts";
import { type Fault, type FaultContext, hold, logged, serviceOf, until } from "./fault.ts";
import { cut } from "./links.ts";

/** Further than any honest difference between two clocks of one machine. */
const WRONG_SECONDS = 60;
const SEEN_MS_MAX = 30_000;
const CUT_MS_MAX = 120_000;

/** Seen in the receive times of rows, beside the broker's own time. */
export const clockGateway: Fault = async (context) => {
  const { warehouse } = context.cluster;
  const since = Date.now();
  let early = 0;
  let late = 0;
  await jump(context, async () => {
    const [row] = await warehouse.query<{ early: string; late: string }>(
      `SELECT min(d) AS early, max(d) AS late FROM (
         SELECT dateDiff('second', log_time, inserted_at) AS d FROM events_raw
         WHERE log_time >= fromUnixTimestamp64Milli({since:Int64}))`,
      { params: { since } },
    );
    early = Number(row?.early);
    late = Number(row?.late);
    return { early, late };
  });
  return { proof: `rows received ${-early} s before and ${late} s after the broker's time` };
};

/**
 * Seen in the times of its log lines. It is started again while its clock is wrong, so that it is assigned under it; and
 * when everything is stored, since a partition with a backlog tells the time by its records. What callers repeat then must
 * still be recognised.
 */
export const clockConsumer: Fault = async (context) => {
  const { cluster, load, eventsPerSecond } = context;
  const consumer = serviceOf(cluster.consumers, context.target);
  const seen = { early: 0, late: 0 };
  await jump(
    context,
    async () => {
      const now = Date.now();
      for (const { time } of logged(consumer.process, "batch stored").slice(-3)) {
        const offSeconds = Math.round((Date.parse(String(time)) - now) / 1000);
        seen.early = Math.min(seen.early, offSeconds);
        seen.late = Math.max(seen.late, offSeconds);
      }
      return seen;
    },
    async () => {
      await until(context, "every consumer reaches ClickHouse", CUT_MS_MAX, () => cut.size === 0);
      await load.pause();
      try {
        await drained(cluster, context.signal);
        await consumer.stop("SIGTERM");
        await consumer.start();
        const isAssigned = () => logged(consumer.process, "partition assigned").length > 0;
        await until(context, `${consumer.name} has partitions`, SEEN_MS_MAX, isAssigned);
      } finally {
        load.resume(eventsPerSecond);
      }
    },
  );
  return { proof: `log lines ${-seen.early} s before and ${seen.late} s after the truth` };
};

async function jump(
  context: FaultContext,
  look: () => Promise<{ early: number; late: number }>,
  whileLate: () => Promise<void> = async () => undefined,
): Promise<void> {
  const { cluster, random, target, holdMs } = context;
  const file = cluster.clockFile(target);
  // The other processes may be away for the moment by a fault of their own: looked again.
  const sees = (which: "early" | "late") => async () => {
    const seen = await look().catch(() => ({ early: 0, late: 0 }));
    return Math.abs(seen[which]) > WRONG_SECONDS;
  };
  try {
    await setClock(file, -random.integer(5, 50) * 60_000);
    await hold(context, holdMs / 2);
    await until(context, "the clock is seen to be slow", SEEN_MS_MAX, sees("early"));
    await setClock(file, random.integer(2, 30) * 3_600_000);
    await hold(context, holdMs / 2);
    await whileLate();
    await until(context, "the clock is seen to be fast", SEEN_MS_MAX, sees("late"));
  } finally {
    await setClock(file, 0);
  }
}
