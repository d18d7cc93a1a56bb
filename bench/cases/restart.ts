// A consumer that is started over a full id window: when the first row is there, how much memory the ids take, and that
// it knows them.
import { setTimeout as sleep } from "node:timers/promises";
import { startMeasured } from "../meter.ts";
import { preload } from "../preload.ts";
import { CaseFailedError, expectCounted, type Result, type Setting } from "../result.ts";
import { countRows, type PathTarget, rowsReach, startPathTarget } from "../stores.ts";

const IDS = 2_000_000;
const IDS_QUICK = 50_000;
const FIRST_ROW_SECONDS_LIMIT = 3;
const RSS_MB_LIMIT = 250;
const KNOWN_IDS = 1000;
/** Of preload. */
const USERS = 5000;
const POLL_MS = 20;

const idOf = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;

export async function measureRestart(setting: Setting): Promise<Result> {
  const ids = setting.quick ? IDS_QUICK : IDS;
  await using target = await startPathTarget();
  setting.progress(`putting ${ids} records on the log`);
  await preload(target.log, ids, setting.signal, idOf);
  {
    setting.progress(`draining ${ids} records`);
    await using before = await startConsumer(target);
    await rowsReach(target.warehouse, ids, setting, before.ended);
  }
  // Appended while nobody consumes: it is there when the window is not.
  await preload(target.log, 1, setting.signal, () => idOf(ids));
  setting.progress("starting a consumer over them");
  await using consumer = await startConsumer(target);
  const begun = performance.now();
  while ((await countRows(target.warehouse)) <= ids) {
    consumer.ended.throwIfAborted();
    setting.signal.throwIfAborted();
    await sleep(POLL_MS);
  }
  const seconds = (performance.now() - begun) / 1000;
  const { rssMaxMb } = await consumer.read();
  await expectKnown(target, ids, setting);
  const rows = await countRows(target.warehouse);
  expectCounted(ids + 2, rows);
  return {
    name: "consumer restart",
    events: ids,
    acked: ids + 2,
    rows,
    seconds,
    rssMaxMb,
    targets: [
      { what: "s to the first row", measured: seconds, limit: FIRST_ROW_SECONDS_LIMIT },
      { what: "RSS MB", measured: rssMaxMb, limit: RSS_MB_LIMIT },
    ],
    note: "seconds from the consumer's start, group join included, to the first row; all ids are of the last hour",
  };
}

function startConsumer(target: PathTarget) {
  return startMeasured("consumer-process.ts", [target.broker, target.clickhouseUrl]);
}

/** Ids from before the restart come again, and then a new one: of all of them, it alone becomes a row. */
async function expectKnown(target: PathTarget, ids: number, setting: Setting): Promise<void> {
  // Of the same user, and so in the same partition, as the record that first had it.
  const known = (n: number) => idOf(n + USERS * Math.floor((n * ids) / KNOWN_IDS / USERS));
  await preload(target.log, KNOWN_IDS, setting.signal, known);
  await preload(target.log, 1, setting.signal, () => idOf(ids + 1));
  await rowsReach(target.warehouse, ids + 2, setting);
  const outcomes = async () => {
    const [row] = await target.warehouse.query<{ n: string }>("SELECT count() AS n FROM log_outcomes");
    return Number(row?.n);
  };
  for (const deadline = performance.now() + 30_000; (await outcomes()) < KNOWN_IDS; await sleep(POLL_MS)) {
    if (performance.now() > deadline) {
      throw new CaseFailedError(`${await outcomes()} of ${KNOWN_IDS} known ids were recognised after the restart`);
    }
  }
}
