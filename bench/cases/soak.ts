// The whole path at half of what the machine takes, for a long time: nothing may grow.
import { setTimeout as sleep } from "node:timers/promises";
import { askPartsShare } from "../../services/consumer/parts.ts";
import { readTaken } from "../cores.ts";
import { startMeasured } from "../meter.ts";
import { expectCounted, type Result, type Setting } from "../result.ts";
import { runLoad } from "../run-load.ts";
import { growthOf, type Sample } from "../slope.ts";
import { countRows, rowsReach, startPathTarget } from "../stores.ts";

const MINUTES = 30;
const EVENTS_PER_SECOND = 20_000;
const LOOK_MS = 5000;
const LOOK_MS_QUICK = 500;
/** Of the mean, over the time that is looked at. */
const GROWTH_LIMIT = 0.05;
const TABLES = ["events_raw"];

export async function measureSoak(setting: Setting): Promise<Result> {
  await using target = await startPathTarget();
  await using gateway = await startMeasured("gateway-process.ts", [target.address]);
  await using consumer = await startMeasured("consumer-process.ts", [target.broker, target.clickhouseUrl]);
  const seconds = setting.quick ? 5 : (setting.minutes ?? MINUTES) * 60;
  const seen = new Map<string, Sample[]>();
  const ended = new AbortController();

  async function look(at: number): Promise<void> {
    const note = (what: string, value: number) => seen.set(what, [...(seen.get(what) ?? []), { at, value }]);
    for (const [part, { residentMb, openFiles }] of readTaken() ?? []) {
      if (part !== "gateway" && part !== "consumer") continue;
      note(`${part} RSS`, residentMb);
      note(`${part} open files`, openFiles);
    }
    note("parts", await askPartsShare({ warehouse: target.warehouse, tables: TABLES }, setting.signal));
  }

  async function watch(): Promise<void> {
    const begun = performance.now();
    while (!ended.signal.aborted) {
      await look((performance.now() - begun) / 1000);
      await sleep(setting.quick ? LOOK_MS_QUICK : LOOK_MS);
    }
  }

  setting.progress(`${EVENTS_PER_SECOND} events/s for ${seconds} s`);
  const begun = performance.now();
  const order = { kind: "connect-protobuf" as const, connections: 16, eventsPerRequest: [100], seconds };
  const watching = watch();
  const load = await runLoad(
    { ...order, port: Number(gateway.details.port), eventsPerSecond: setting.quick ? 2000 : EVENTS_PER_SECOND },
    setting.signal,
  );
  ended.abort();
  await watching;
  await rowsReach(target.warehouse, load.acked, setting, consumer.ended);
  const rows = await countRows(target.warehouse);
  expectCounted(load.acked, rows);
  return {
    name: "soak",
    ...{ events: load.events, acked: load.acked, rows, seconds: (performance.now() - begun) / 1000 },
    targets: [...seen].map(([what, samples]) => ({
      ...{ what: `growth of ${what}, %`, measured: 100 * growthOf(samples), limit: 100 * GROWTH_LIMIT },
    })),
    note: `${[...seen].map(([what, samples]) => `${what} ${samples.at(-1)?.value.toFixed(2)}`).join(", ")} at the end`,
  };
}
