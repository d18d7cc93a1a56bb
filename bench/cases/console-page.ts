// An open console beside `millrace start`: what it costs when nobody touches it, in front and in the background, and whether the
// page keeps up with 500 events a second that come in live.
import { setTimeout as sleep } from "node:timers/promises";
import { type Browser, chromium } from "playwright-core";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { type RunningStandalone, startStandalone } from "../../test/kit/standalone.ts";
import { coresOf, readTaken } from "../cores.ts";
import { expectCounted, type Result, type Setting } from "../result.ts";
import { countRows, makeScratch, rowsReach } from "../stores.ts";

const EVENTS_PER_SECOND = 500;
const BATCHES_PER_SECOND = 5;
const TASK_MS_LIMIT = 100;
const VIEWPORT = { width: 1280, height: 860 };

export async function measureConsolePage(setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const standalone = stack.use(await startStandalone({ dataDir: await makeScratch(stack) }));
  const { url, statsUrl, clickhouseUrl } = standalone;
  const warehouse = createClickHouseWarehouse({
    ...{ url: clickhouseUrl, user: "default", password: "", database: "millrace" },
  });
  stack.use(warehouse);
  const begun = performance.now();
  let acked = await publishEvents(url, 10);
  await rowsReach(warehouse, acked, setting);
  const live = await (await launch(stack)).newPage({ viewport: VIEWPORT });
  await live.goto(`${statsUrl}/#/live`);
  await live.locator(".row").first().waitFor();
  await live.evaluate(OBSERVE_TASKS);
  const seconds = setting.quick ? 2 : 20;
  setting.progress(`${EVENTS_PER_SECOND} events a second`);
  for (let second = 0; second < seconds; second++) {
    const next = sleep(1000);
    for (let batch = 0; batch < BATCHES_PER_SECOND; batch++) {
      acked += await publishEvents(url, EVENTS_PER_SECOND / BATCHES_PER_SECOND);
    }
    await next;
  }
  const { longest, tasks, shown } = await live.evaluate<Record<"longest" | "tasks" | "shown", number>>(OBSERVED);
  await rowsReach(warehouse, acked, setting);
  const rows = await countRows(warehouse);
  expectCounted(acked, rows);
  return {
    name: "console page",
    ...{ events: acked, acked, rows, seconds: (performance.now() - begun) / 1000 },
    targets: setting.quick
      ? []
      : [{ what: "longest task at 500 events/s, ms", measured: longest, limit: TASK_MS_LIMIT }],
    note: `${tasks} tasks over 50 ms, ${shown} rows on the page`,
  };
}

interface IdleCost {
  /** Of `millrace start` with its engine, beyond what it takes without a page, % of a core. */
  front: number;
  hidden: number;
  note: string;
}

/** Of Overview that nobody touches. */
export async function measureIdlePage(
  { statsUrl }: Pick<RunningStandalone, "statsUrl">,
  { key, seconds }: { key: string; seconds: number },
  setting: Setting,
): Promise<IdleCost> {
  await using stack = new AsyncDisposableStack();
  const browser = await launch(stack);
  const measure = async (what: string) => {
    setting.progress(what);
    const [before, begun] = [readTaken(), performance.now()];
    await sleep(seconds * 1000, undefined, { signal: setting.signal });
    const cores = coresOf(before, readTaken(), (performance.now() - begun) / 1000);
    if (!cores) throw new Error("there is no /proc to read CPU time from");
    const share = (part: string) => 100 * (cores[part] ?? 0);
    return { server: share("standalone") + share("engine"), browser: share("browser") };
  };
  const without = await measure("without a page");
  const page = await browser.newPage({ viewport: VIEWPORT });
  await page.addInitScript(`sessionStorage.setItem("millrace.key", ${JSON.stringify(key)})`);
  await page.goto(`${statsUrl}/#/overview`);
  await page.getByText("What is in them?").waitFor();
  // What it asks and draws once.
  await sleep(2000);
  const front = await measure("overview in front");
  await page.evaluate(HIDE);
  const hidden = await measure("overview in the background");
  const percent = (share: number) => `${share.toFixed(2)} %`;
  return {
    front: Math.max(0, front.server - without.server),
    hidden: Math.max(0, hidden.server - without.server),
    note: `millrace start takes ${percent(without.server)} of a core without a page, ${percent(front.server)} with Overview in front, ${percent(hidden.server)} with it in the background; its browser ${percent(front.browser)} and ${percent(hidden.browser)}`,
  };
}

async function launch(stack: AsyncDisposableStack): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  stack.defer(() => browser.close());
  return browser;
}

async function publishEvents(url: string, count: number): Promise<number> {
  const events = Array.from({ length: count }, (_, n) => ({
    ...{ event: `event_${n % 7}`, distinctId: `user_${n}` },
    properties: { n, plan: "pro", path: `/p/${n}`, referrer: "https://example.com/some/where" },
  }));
  const answer = await fetch(`${url}/millrace.events.v1.EventService/Publish`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ events }),
  });
  return ((await answer.json()) as { accepted: number }).accepted;
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
