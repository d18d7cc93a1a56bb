// What an open console costs `millrace start` and the browser: untouched in the background and in front, and while 500 events
// a second come in live.
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { FREE_PORTS, spawnMillrace } from "../../test/kit/processes.ts";
import { expectCounted, type Result, type Setting } from "../result.ts";
import { countRows, makeScratch, rowsReach } from "../stores.ts";

const EVENTS_PER_SECOND = 500;
const BATCHES_PER_SECOND = 5;
const TASK_MS_LIMIT = 100;
const IDLE_SHARE_LIMIT = 1;
const TICKS_PER_SECOND = 100;

export async function measureConsolePage(setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const dataDir = await makeScratch(stack);
  const standalone = stack.use(spawnMillrace(["start", "--data-dir", dataDir], FREE_PORTS));
  const port = Number((await standalone.logged("gateway listening")).port);
  const statsPort = Number((await standalone.logged("stats listening")).port);
  await standalone.logged("partition assigned");
  const url = /ClickHouse {2}(http:\/\/\S+)/.exec(standalone.lines.join("\n"))?.[1] ?? "";
  const warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database: "millrace" });
  stack.use(warehouse);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  stack.defer(() => browser.close());
  const seconds = setting.quick ? 2 : 20;
  const begun = performance.now();

  const publish = (count: number) => publishEvents(port, count);
  await publish(10);
  await rowsReach(warehouse, 10, setting);
  setting.progress("without a page");
  const without = await shareOfCore(standalone.pid, seconds);
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
  await page.goto(`http://127.0.0.1:${statsPort}/#/overview`);
  await page.getByText("What is in them?").waitFor();
  setting.progress("overview in front");
  const front = await shareOfCore(standalone.pid, seconds);
  await page.evaluate(HIDE);
  setting.progress("overview in the background");
  const hidden = await shareOfCore(standalone.pid, seconds);
  await page.close();

  setting.progress(`${EVENTS_PER_SECOND} events a second`);
  const live = await browser.newPage({ viewport: { width: 1280, height: 860 } });
  await live.goto(`http://127.0.0.1:${statsPort}/#/live`);
  await live.locator(".row").first().waitFor();
  await live.evaluate(OBSERVE_TASKS);
  let acked = 10;
  for (let second = 0; second < seconds; second++) {
    const next = sleep(1000);
    for (let batch = 0; batch < BATCHES_PER_SECOND; batch++) {
      acked += await publish(EVENTS_PER_SECOND / BATCHES_PER_SECOND);
    }
    await next;
  }
  const { longest, tasks, shown } = await live.evaluate<Record<"longest" | "tasks" | "shown", number>>(OBSERVED);
  await rowsReach(warehouse, acked, setting);
  const rows = await countRows(warehouse);
  expectCounted(acked, rows);
  const over = (share: number) => Math.max(0, share - without);
  return {
    name: "console page",
    ...{ events: acked, acked, rows, seconds: (performance.now() - begun) / 1000 },
    targets: setting.quick
      ? []
      : [
          {
            what: "untouched in the background, % of a core beyond none",
            measured: over(hidden),
            limit: IDLE_SHARE_LIMIT,
          },
          { what: "longest task at 500 events/s, ms", measured: longest, limit: TASK_MS_LIMIT },
        ],
    note: `millrace start: ${without.toFixed(1)} % of a core without a page, ${hidden.toFixed(1)} % with one in the background, ${front.toFixed(1)} % with Overview in front; live: ${tasks} tasks over 50 ms, ${shown} rows on the page`,
  };
}

async function publishEvents(port: number, count: number): Promise<number> {
  const events = Array.from({ length: count }, (_, n) => ({
    ...{ event: `event_${n % 7}`, distinctId: `user_${n}` },
    properties: { n, plan: "pro", path: `/p/${n}`, referrer: "https://example.com/some/where" },
  }));
  const answer = await fetch(`http://127.0.0.1:${port}/millrace.events.v1.EventService/Publish`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ events }),
  });
  return ((await answer.json()) as { accepted: number }).accepted;
}

/** CPU time of the process and its children, % of one core. */
async function shareOfCore(pid: number, seconds: number): Promise<number> {
  const before = ticksOf(pid);
  const begun = performance.now();
  await sleep(seconds * 1000);
  return ((ticksOf(pid) - before) / TICKS_PER_SECOND / ((performance.now() - begun) / 1000)) * 100;
}

function ticksOf(pid: number): number {
  let ticks = 0;
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = readFileSync(`/proc/${name}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
      if (Number(name) === pid || Number(fields[1]) === pid) ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It has ended meanwhile.
    }
  }
  return ticks;
}

/** What a browser does when another tab is brought to the front. */
const HIDE = `Object.defineProperty(document, "visibilityState", { value: "hidden" });
  document.dispatchEvent(new Event("visibilitychange"));`;

const OBSERVE_TASKS = `globalThis.tasks = [];
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) tasks.push(duration);
  }).observe({ type: "longtask" });`;

const OBSERVED = `({
  longest: Math.max(0, ...tasks), tasks: tasks.length, shown: document.querySelectorAll(".row").length
})`;
