// What one captured event costs a Node program, and how many of them one client brings to a gateway.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startMeasured } from "../meter.ts";
import { CaseFailedError, expectCounted, type Result, type Setting } from "../result.ts";
import { makeScratch, startSqliteTarget } from "../stores.ts";

/** The JSON of ten properties and an id are about a third of it. */
const CPU_US_LIMITS = { memory: 5, spool: 9 };

export async function measureClient(store: "memory" | "spool", setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const target = stack.use(await startSqliteTarget());
  const gateway = stack.use(await startMeasured("gateway-process.ts", [target.address]));
  const scratch = await makeScratch(stack);
  const countersFile = join(scratch, "counters.json");
  const dir = store === "spool" ? join(scratch, "spool") : "";
  const seconds = setting.quick ? 1.5 : 8;
  let measured: { cpuUs: number; rssMaxMb: number; rows: number; seconds: number };
  {
    const url = `http://127.0.0.1:${gateway.details.port}`;
    await using client = await startMeasured("client-process.ts", [url, countersFile, dir]);
    setting.progress("warming up");
    await sleep(setting.quick ? 500 : 3_000, undefined, { signal: setting.signal });
    setting.progress(`capturing for ${seconds} s`);
    const [begun, rowsBefore, before] = [performance.now(), await target.count(), await client.read()];
    await sleep(seconds * 1000, undefined, { signal: setting.signal });
    const [after, rows] = [await client.read(), (await target.count()) - rowsBefore];
    const { rssMaxMb } = after;
    measured = { cpuUs: after.cpuUs - before.cpuUs, rssMaxMb, rows, seconds: (performance.now() - begun) / 1000 };
  }
  const { accepted, sent } = JSON.parse(await readFile(countersFile, "utf8")) as { accepted: number; sent: number };
  if (accepted !== sent) throw new CaseFailedError(`${accepted} events captured, ${sent} sent`);
  const rows = await target.count();
  expectCounted(sent, rows);
  const cpuUsPerEvent = measured.cpuUs / measured.rows;
  const targets = [{ what: "CPU us/event", measured: cpuUsPerEvent, limit: CPU_US_LIMITS[store] }];
  const perSecond = Math.round(measured.rows / measured.seconds);
  return {
    name: `client, ${store}`,
    events: measured.rows,
    acked: measured.rows,
    rows: measured.rows,
    seconds: measured.seconds,
    cpuUsPerEvent,
    rssMaxMb: measured.rssMaxMb,
    targets,
    note: `${perSecond} events/s; ${rows} in all, each counted`,
  };
}
