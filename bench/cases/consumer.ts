// A full topic into ClickHouse. The whole drain counts, first batches included: there is no way to warm up a consumer
// on a topic without draining it.
import { startMeasured } from "../meter.ts";
import { preload } from "../preload.ts";
import { expectCounted, type Result, type Setting } from "../result.ts";
import { countRows, rowsReach, startPathTarget } from "../stores.ts";

const RECORDS = 1_000_000;
const RECORDS_QUICK = 50_000;
/** 250,000 rows a core-second. */
const CPU_US_LIMIT = 4;

export async function measureConsumer(setting: Setting): Promise<Result> {
  const records = setting.quick ? RECORDS_QUICK : RECORDS;
  await using target = await startPathTarget();
  setting.progress(`putting ${records} records on the log`);
  await preload(target.log, records, setting.signal);
  expectCounted(records, await target.count());
  setting.progress(`draining ${records} records`);
  await using consumer = await startMeasured("consumer-process.ts", [target.broker, target.clickhouseUrl]);
  const begun = performance.now();
  const before = await consumer.read();
  await rowsReach(target.warehouse, records, setting, consumer.ended);
  const after = await consumer.read();
  const seconds = (performance.now() - begun) / 1000;
  const rows = await countRows(target.warehouse);
  expectCounted(records, rows);
  const cpuUsPerEvent = (after.cpuUs - before.cpuUs) / rows;
  return {
    name: "consumer drain",
    events: records,
    acked: records,
    rows,
    seconds,
    cpuUsPerEvent,
    rssMaxMb: after.rssMaxMb,
    targets: [{ what: "CPU us/event", measured: cpuUsPerEvent, limit: CPU_US_LIMIT }],
    note: "without the engine's CPU; from the first batch on, not warmed up",
  };
}
