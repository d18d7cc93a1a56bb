// What `millrace status` and the page say while a part of a running cluster is away or a disk is full, and that they say when it is over. Every part is a process of its own; events are sent all the while.
import { setTimeout as sleep } from "node:timers/promises";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { callCommand, mainOf } from "../kit/command.ts";
import { freePort } from "../kit/free-port.ts";
import { kafkaForTests, type TestBroker } from "../kit/kafka.ts";
import { atMost, patience } from "../kit/patience.ts";
import { createService, type Service } from "../kit/service.ts";
import { createDisk, type Disk, type Filled } from "../kit/small-disk.ts";
import { runMillrace, startStandalone } from "../kit/standalone.ts";
import { until } from "../kit/until.ts";
import { chromiumForTests } from "./support/chromium.ts";

const chromium = chromiumForTests();
const kafka = kafkaForTests();
const TOLD_MS_MAX = 10_000;
const SEND_PAUSE_MS = 100;
const TIME = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`;
const WAIT = String.raw`(\d[\d,]*) events? waits? on the log, none is lost\.`;
const REFUSED = "Callers get 503 and keep their events; what was acknowledged before is on the log, none is lost\\.";
/** Enough that nothing is said of it before it is full. */
const DISK_MEGABYTES = 400;
const TEST_MS_MAX = patience(120_000);
/** A time of the text is cut to the second, and the consumer's is when it was last seen to move. */
const SINCE_MS_OFF_MAX = 3_000;

/** What is asked and looked at. */
interface Scene {
  url: string;
  statsUrl: string;
  clickhouseUrl: string;
  page: Page;
}

let browser: Browser;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  if (!chromium.available) return;
  browser = await chromium.launch();
  stack.defer(() => browser.close());
});
afterAll(() => stack.disposeAsync(), TEST_MS_MAX);

async function overviewAt(statsUrl: string): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
  await page.goto(`${statsUrl}/#/overview`);
  return page;
}

interface Sending extends AsyncDisposable {
  /** Ids of events that were acknowledged. */
  readonly acked: ReadonlySet<string>;
}

/** One event after the other until it is disposed. */
function send(url: string): Sending {
  const acked = new Set<string>();
  const stopping = new AbortController();
  const running = (async () => {
    while (!stopping.signal.aborted) {
      const id = crypto.randomUUID();
      const answer = await fetch(`${url}/millrace.events.v1.EventService/Publish`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ events: [{ id, event: "sent", distinctId: "somebody" }] }),
      });
      const { accepted } = (await answer.json()) as { accepted?: number };
      if (answer.ok && accepted === 1) acked.add(id);
      await sleep(SEND_PAUSE_MS);
    }
  })();
  return {
    acked,
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await running;
    },
  };
}

/** Rows of each of these events. */
async function rowsOf(url: string, ids: ReadonlySet<string>): Promise<Map<string, number>> {
  const answer = await fetch(url, {
    method: "POST",
    body: "SELECT toString(uuid), toString(count()) FROM millrace.events_raw WHERE event = 'sent' GROUP BY uuid FORMAT TSV",
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  const rows = text.split("\n").map((line) => line.split("\t"));
  return new Map(rows.filter(([id = ""]) => ids.has(id)).map(([id = "", n]) => [id, Number(n)]));
}

async function allStored(url: string, acked: ReadonlySet<string>): Promise<boolean> {
  const ids = new Set(acked);
  // Not answered while ClickHouse starts again, as after a write that a full disk did not take.
  const rows = await rowsOf(url, ids).catch(() => undefined);
  return ids.size > 0 && rows?.size === ids.size;
}

async function statusLines(url: string): Promise<{ code: number; lines: string[] }> {
  const { code, out } = await callCommand(await mainOf("status"), [], { STATS_URL: url });
  return { code, lines: out.split("\n") };
}

/** Resolves when the command and the page say it; rejects when that takes too long. */
async function told(shown: Page, url: string, text: RegExp, remedy: RegExp): Promise<RegExpExecArray> {
  const begun = performance.now();
  let last: string[] = [];
  let match: RegExpExecArray | null = null;
  await until(
    async () => {
      const { code, lines } = await statusLines(url);
      last = lines;
      const at = lines.findIndex((line) => text.test(line));
      if (at < 0 || !remedy.test(lines[at + 1] ?? "")) return false;
      match = text.exec(lines[at] ?? "");
      expect(code).toBe(3);
      return true;
    },
    `status says ${text}`,
    atMost(TOLD_MS_MAX),
  ).catch((error: Error) => {
    throw new Error(`${error.message}, but:\n${last.join("\n")}`);
  });
  const left = Math.max(1, atMost(TOLD_MS_MAX) - (performance.now() - begun));
  await shown.locator(".problems li p", { hasText: text }).waitFor({ timeout: left });
  await shown.locator(".problems li .remedy", { hasText: new RegExp(remedy.source.replaceAll("`", "")) }).waitFor();
  return match as unknown as RegExpExecArray;
}

async function isWell(shown: Page, url: string): Promise<void> {
  await until(async () => (await statusLines(url)).lines[0] === "All is well.", "status is well", atMost(TOLD_MS_MAX));
  await shown.getByText("All is well").waitFor({ timeout: atMost(TOLD_MS_MAX) });
}

interface Fault {
  begin(): Promise<unknown>;
  end(): Promise<unknown>;
  /** It fills this disk, which has to be a real one. */
  disk?: () => Disk;
  /** Its groups are since when, and how many events wait. */
  text: RegExp;
  remedy: RegExp;
}

/** Rejects unless command and page say it in time, in these words, and later that all is well, with every event stored once. */
async function goThrough({ url, statsUrl, clickhouseUrl, page }: Scene, { begin, end, text, remedy }: Fault) {
  await using sending = send(url);
  await until(() => allStored(clickhouseUrl, sending.acked), "the first events are stored");
  await isWell(page, statsUrl);

  const beganMs = Date.now();
  await begin();
  const [, since = "", waiting] = await told(page, statsUrl, text, remedy);
  expect(Date.parse(since)).toBeGreaterThan(beganMs - SINCE_MS_OFF_MAX);
  expect(Date.parse(since)).toBeLessThanOrEqual(Date.now());
  if (waiting !== undefined) {
    expect(Number(waiting.replaceAll(",", ""))).toBeGreaterThan(0);
    expect(Number(waiting.replaceAll(",", ""))).toBeLessThanOrEqual(sending.acked.size + 1);
  }

  await end();
  const { size } = sending.acked;
  await until(() => sending.acked.size > size + 2, "events are taken", patience(60_000));
  await until(() => allStored(clickhouseUrl, sending.acked), "all events are stored", patience(60_000));
  await isWell(page, statsUrl);

  await sending[Symbol.asyncDispose]();
  await until(() => allStored(clickhouseUrl, sending.acked), "the last events are stored");
  const rows = await rowsOf(clickhouseUrl, sending.acked);
  expect([...rows.values()].filter((n) => n !== 1)).toEqual([]);
}

/** Of `disk` until `end`. */
function filling(disk: () => Disk, pid: () => number): Pick<Fault, "begin" | "end" | "disk"> {
  let filled: Filled | undefined;
  return {
    disk,
    begin: async () => {
      filled = await disk().fill(pid());
    },
    end: async () => filled?.free(),
  };
}

/** Rejects as goThrough does. */
async function tell(scene: Scene, { disk, ...fault }: Fault, skip: (note: string) => void) {
  if (disk && !disk().isMounted) return skip("no file system can be mounted here: run the tests as root");
  return goThrough(scene, fault);
}

const hasCluster = chromium.available && kafka.available && kafka.kind !== "environment";

describe.skipIf(!hasCluster)("command and page of a cluster say within ten seconds, and when it is over:", () => {
  let broker: TestBroker;
  let clickhouse: Service;
  let consumer: Service;
  let disk: Disk;
  let scene: Scene;
  const ended: string[] = [];

  beforeAll(async () => {
    if (!kafka.available || kafka.kind === "environment") return;
    disk = stack.use(await createDisk(DISK_MEGABYTES));
    broker = stack.use(await kafka.start());
    const port = await freePort();
    const clickhouseUrl = `http://127.0.0.1:${port}`;
    const env = {
      ...{ KAFKA_BROKERS: broker.brokers.join(","), KAFKA_PARTITIONS: "2", CLICKHOUSE_URL: clickhouseUrl },
      ...{ HOST: "127.0.0.1", PORT: "0", CONSUMER_PORT: "0", STATS_PORT: "0" },
    };
    const start = async (command: string, readyMessage: string, own: Record<string, string> = env) => {
      const onEnded = (account: string) => void ended.push(account);
      const service = createService({ name: command, command, env: own, readyMessage, onEnded });
      stack.defer(async () => void (await service.stop("SIGTERM")));
      await service.start();
      return service;
    };
    const own = { HOST: "127.0.0.1", CLICKHOUSE_HTTP_PORT: String(port), DATA_DIR: disk.dataDir };
    clickhouse = await start("clickhouse", "ClickHouse endpoint is ready", own);
    expect(await runMillrace(["migrate"], env)).toMatchObject({ code: 0 });
    const gateway = await start("gateway", "gateway listening");
    const stats = await start("stats", "stats listening");
    consumer = await start("consumer", "health and metrics are served");
    const statsUrl = `http://127.0.0.1:${stats.ready.port}`;
    const url = `http://127.0.0.1:${gateway.ready.port}`;
    scene = { url, statsUrl, clickhouseUrl, page: await overviewAt(statsUrl) };
  }, TEST_MS_MAX);
  // A process that ended by itself was started again, and would hide what it did.
  afterEach(() => expect(ended).toEqual([]));

  const faults: (Fault & { what: string })[] = [
    {
      what: "ClickHouse is stopped",
      begin: () => clickhouse.stop("SIGTERM"),
      end: () => clickhouse.start(),
      text: new RegExp(`No rows since ${TIME}: ClickHouse has not answered since (${TIME}) \\(.+\\)\\. ${WAIT}`),
      remedy: /Start ClickHouse again/,
    },
    {
      what: "the consumer is killed",
      begin: () => consumer.stop("SIGKILL"),
      end: () => consumer.start(),
      text: new RegExp(`No rows since ${TIME}: the consumer has not moved since (${TIME})\\. ${WAIT}`),
      remedy: /Start `millrace consumer`/,
    },
    {
      what: "the broker is stopped",
      begin: () => broker.stop(),
      end: () => broker.restart(),
      text: new RegExp(`No events are taken: the event log has not answered since (${TIME}) \\(.+\\)\\. ${REFUSED}`),
      remedy: /See that the brokers run and can be reached/,
    },
    {
      what: "the disk of ClickHouse is full",
      ...filling(
        () => disk,
        () => clickhouse.process.pid,
      ),
      text: new RegExp(
        `No rows since ${TIME}: the disk of ClickHouse \\(default\\) has been full since (${TIME}) \\(\\d+ MB of \\d+ MB left\\)\\. ${WAIT}`,
      ),
      remedy: /Free space or enlarge the disk/,
    },
  ];
  it.for(faults)("$what", { timeout: TEST_MS_MAX }, ({ what: _, ...fault }, { skip }) => tell(scene, fault, skip));
});

it.skipIf(!chromium.available)(
  "command and page of `millrace start` say so of a full disk under log and ClickHouse",
  { timeout: TEST_MS_MAX },
  async ({ skip }) => {
    await using disk = await createDisk(DISK_MEGABYTES);
    await using standalone = await startStandalone({ dataDir: disk.dataDir });
    const { url, statsUrl, clickhouseUrl } = standalone;
    const fault: Fault = {
      ...filling(
        () => disk,
        () => standalone.process.pid,
      ),
      text: new RegExp(
        `No events are taken: the event log could not be written since (${TIME}) \\(.+\\)\\. ${REFUSED}`,
      ),
      remedy: /See that the disk of DATA_DIR has room and can be written/,
    };
    await tell({ url, statsUrl, clickhouseUrl, page: await overviewAt(statsUrl) }, fault, skip);
  },
);
