// Events through the spool of @millrace/client into a standalone, while both processes are killed with -9 again and again.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { CaptureOrder, CaptureReport } from "../../sdk/node/scripts/capture-process.ts";
import { patience } from "./patience.ts";
import { type Spawned, spawnMillrace } from "./processes.ts";

export interface SpoolRunOptions {
  events: number;
  eventsPerSecond: number;
  gatewayKills: number;
  clientKills: number;
  report(line: string): void;
}

export interface SpoolRunResult {
  rows: number;
  distinct: number;
  /** Of the numbers 0 to events - 1. */
  missing: number;
  /** Events that processes found in the spool at their start. */
  recovered: number;
  gatewayKills: number;
  clientKills: number;
  verifyExitCode: number | null;
  seconds: number;
}

const PROGRAM = fileURLToPath(new URL("../../sdk/node/scripts/capture-process.ts", import.meta.url));
const START_MS_MAX = patience(30_000);
const AWAY_MS = 300;
/** Without a new row for so long after all was sent, the rest does not come. */
const STALL_MS_MAX = patience(60_000);
const COUNT =
  "SELECT count(), uniqExact(n), countIf(n >= LIMIT_N) FROM (SELECT JSONExtractUInt(properties, 'n') AS n FROM millrace.events_raw WHERE event = 'numbered') FORMAT TSV";

export async function runSpoolKills({
  events,
  eventsPerSecond,
  gatewayKills,
  clientKills,
  report,
}: SpoolRunOptions): Promise<SpoolRunResult> {
  await using stack = new AsyncDisposableStack();
  const scratch = await mkdtemp(join(tmpdir(), "millrace-spool-run-"));
  stack.defer(() => rm(scratch, { recursive: true, force: true }));
  const server = stack.use(await startServer(join(scratch, "data")));
  const ledger = join(scratch, "ledger");
  await writeFile(ledger, Buffer.alloc(8));
  const order: CaptureOrder = { url: server.url, dir: join(scratch, "spool"), ledger, events, eventsPerSecond };
  const client = stack.use(createCapturer(order, report));
  const begun = performance.now();

  const killClient = async () => {
    for (let kill = 1; kill <= clientKills; kill++) {
      await client.accepted(Math.floor((events * kill) / (clientKills + 1)));
      await client.kill();
    }
  };
  const killServer = async () => {
    for (let kill = 1; kill <= gatewayKills; kill++) {
      await client.accepted(Math.floor((events * (kill - 0.5)) / (gatewayKills + 1)));
      await server.kill();
      report(`gateway killed (${kill})`);
      await sleep(AWAY_MS);
      await server.start();
    }
  };
  const failed = Promise.race([client.failed, server.failed]);
  await Promise.race([Promise.all([killClient(), killServer(), client.sent]), failed]);
  report("all events have their verdict");
  const { rows, distinct, beyond } = await Promise.race([settled(server, events), failed]);
  const seconds = (performance.now() - begun) / 1000;
  await using verify = spawnMillrace(["verify"], {
    DATA_DIR: join(scratch, "data"),
    CLICKHOUSE_URL: server.clickhouseUrl,
  });
  const verifyExitCode = await verify.exited;
  if (verifyExitCode !== 0) report(verify.lines.join("\n"));
  const missing = events - (distinct - beyond);
  const { recovered } = client;
  return { rows, distinct, missing, recovered, gatewayKills, clientKills, verifyExitCode, seconds };
}

interface Counted {
  rows: number;
  distinct: number;
  /** Numbers that no event had. */
  beyond: number;
}

/** Waits until no more rows come than there should be. */
async function settled(server: Server, events: number): Promise<Counted> {
  let last = -1;
  let since = performance.now();
  for (;;) {
    const [rows = 0, distinct = 0, beyond = 0] = await server.count(events);
    if (rows !== last) since = performance.now();
    last = rows;
    if (rows >= events || performance.now() - since > STALL_MS_MAX) return { rows, distinct, beyond };
    await sleep(200);
  }
}

interface Server extends AsyncDisposable {
  readonly url: string;
  readonly clickhouseUrl: string;
  readonly failed: Promise<never>;
  kill(): Promise<void>;
  start(): Promise<void>;
  count(events: number): Promise<number[]>;
}

/** `millrace start`, on the same ports after each kill. */
async function startServer(dataDir: string): Promise<Server> {
  const failed = Promise.withResolvers<never>();
  // Somebody may have stopped listening by the time it fails.
  failed.promise.catch(() => {});
  let child: Spawned | undefined;
  let ports = { PORT: "0", CLICKHOUSE_HTTP_PORT: "0" };
  const urls = { url: "", clickhouseUrl: "" };

  async function start(): Promise<void> {
    const env = { ...ports, STATS_PORT: "0", RELAY_PORT: "0", DATA_DIR: dataDir };
    const deadline = performance.now() + START_MS_MAX;
    for (;;) {
      const started = spawnMillrace(["start"], env);
      const ended = started.exited.then(() => true);
      while (performance.now() < deadline) {
        const url = printed(started, /^ {2}events +(http:\S+)/);
        const clickhouseUrl = printed(started, /^ {2}ClickHouse +(http:\S+)/);
        if (url && clickhouseUrl) {
          Object.assign(urls, { url, clickhouseUrl });
          ports = { PORT: new URL(url).port, CLICKHOUSE_HTTP_PORT: new URL(clickhouseUrl).port };
          child = started;
          return;
        }
        // The ClickHouse process of a killed standalone takes a moment to let go of its port and its directory.
        if (await Promise.race([ended, sleep(20, false)])) break;
      }
      await started.stop("SIGKILL");
      if (performance.now() > deadline) throw new Error(`the standalone does not start:\n${started.lines.join("\n")}`);
    }
  }

  await start();
  return {
    get url() {
      return urls.url;
    },
    get clickhouseUrl() {
      return urls.clickhouseUrl;
    },
    failed: failed.promise,
    async kill() {
      await child?.stop("SIGKILL");
    },
    start: () =>
      start().catch((error: unknown) => {
        failed.reject(error);
        throw error;
      }),
    async count(events) {
      const answer = await fetch(urls.clickhouseUrl, {
        method: "POST",
        body: COUNT.replace("LIMIT_N", String(events)),
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      return text.trim().split("\t").map(Number);
    },
    async [Symbol.asyncDispose]() {
      await child?.stop("SIGKILL");
    },
  };
}

function printed({ lines }: Spawned, pattern: RegExp): string | undefined {
  return lines.map((line) => pattern.exec(line)?.[1]).find(Boolean);
}

interface Capturer extends AsyncDisposable {
  /** Resolves when so many events are accepted. */
  accepted(events: number): Promise<void>;
  /** With -9; the next process goes on. */
  kill(): Promise<void>;
  readonly sent: Promise<void>;
  readonly failed: Promise<never>;
  readonly recovered: number;
}

function createCapturer(order: CaptureOrder, report: (line: string) => void): Capturer {
  const sent = Promise.withResolvers<void>();
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const waiting = new Set<() => void>();
  let [accepted, recovered] = [0, 0];
  let isEnding = false;
  let child = start();

  function start(): ChildProcess {
    const started = fork(PROGRAM, [JSON.stringify(order)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    started.on("message", (message: CaptureReport) => {
      if ("begun" in message) {
        recovered += message.recovered;
        report(`client begins at event ${message.begun}, ${message.recovered} in the spool`);
      } else if ("sent" in message) {
        isEnding = true;
        sent.resolve();
      } else {
        accepted = message.accepted;
        for (const look of waiting) look();
      }
    });
    started.once("exit", (code, signal) => {
      if (!isEnding && started === child) failed.reject(new Error(`the client ended by itself (${signal ?? code})`));
    });
    return started;
  }

  async function end(): Promise<void> {
    const ended = child;
    const exit = ended.exitCode === null && ended.signalCode === null ? once(ended, "exit") : undefined;
    isEnding = true;
    ended.kill("SIGKILL");
    await exit;
  }

  return {
    accepted: (events) =>
      new Promise((resolve) => {
        const look = () => {
          if (accepted < events) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    async kill() {
      await end();
      isEnding = false;
      child = start();
    },
    sent: sent.promise,
    failed: failed.promise,
    get recovered() {
      return recovered;
    },
    [Symbol.asyncDispose]: end,
  };
}
