// `millrace start` as a user runs it: a process of its own over a data directory of its own, on free ports.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { killWithUs } from "./guard.ts";
import { patience } from "./patience.ts";
import { COMMANDS, FREE_PORTS, plainEnvironment, type Spawned, spawnMillrace } from "./processes.ts";
import { until } from "./until.ts";

export interface RunningStandalone extends AsyncDisposable {
  readonly process: Spawned;
  readonly url: string;
  readonly statsUrl: string;
  /** host:port of the line protocol. */
  readonly relayAddress: string;
  readonly clickhouseUrl: string;
  readonly dataDir: string;
  /** Settings with which other commands find it. */
  readonly env: Record<string, string>;
  /** The answer's text, without its last line break. */
  query(sql: string): Promise<string>;
}

const READY_MS_MAX = patience(20_000);
const RUN_MS_MAX = patience(60_000);

export interface StandaloneOptions {
  dataDir: string;
  env?: Record<string, string>;
  /** Program and first arguments of `millrace`. Default this checkout's. */
  millrace?: readonly string[];
}

/** Rejects with what was printed when it is not ready in time. Killed with -9 when disposed. */
export async function startStandalone(options: StandaloneOptions): Promise<RunningStandalone> {
  const { dataDir, env = {}, millrace } = options;
  const child = spawnMillrace(["start"], { ...FREE_PORTS, DATA_DIR: dataDir, ...env }, millrace);
  killWithUs(child);
  const addresses = await readyAt(child).catch(async (cause) => {
    await child[Symbol.asyncDispose]();
    throw new Error(`millrace start is not ready:\n${child.lines.slice(-20).join("\n")}`, { cause });
  });
  const { url, clickhouseUrl } = addresses;
  return {
    process: child,
    ...addresses,
    dataDir,
    env: { DATA_DIR: dataDir, CLICKHOUSE_URL: clickhouseUrl, MILLRACE_URL: url },
    query: (sql) => askClickHouse(clickhouseUrl, sql),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

/** The answer's text, without its last line break. Rejects with what ClickHouse says is wrong. */
export async function askClickHouse(url: string, sql: string): Promise<string> {
  const answer = await fetch(url, { method: "POST", body: sql });
  const body = await answer.text();
  if (!answer.ok) throw new Error(body);
  return body.trimEnd();
}

interface Addresses {
  url: string;
  statsUrl: string;
  relayAddress: string;
  clickhouseUrl: string;
}

/** The addresses that it prints, the last when it is ready. */
async function readyAt(child: Spawned): Promise<Addresses> {
  let ended = false;
  void child.exited.then(() => {
    ended = true;
  });
  const printed = (name: string) =>
    child.lines.map((line) => new RegExp(`^ {2}${name} +(\\S+)`).exec(line)?.[1]).find(Boolean);
  const found = () => ["events", "stats", "relays", "ClickHouse"].map(printed);
  await until(() => ended || found().every(Boolean), "millrace start prints its addresses", READY_MS_MAX);
  if (ended) throw new Error("it has ended");
  const [url = "", statsUrl = "", relayAddress = "", clickhouseUrl = ""] = found() as string[];
  return { url, statsUrl, relayAddress, clickhouseUrl };
}

/** Settings that bring the next process to the ports of the one before. */
export function samePorts(running: RunningStandalone): Record<string, string> {
  const portOf = (url: string) => new URL(url).port;
  return {
    PORT: portOf(running.url),
    CLICKHOUSE_HTTP_PORT: portOf(running.clickhouseUrl),
    STATS_PORT: portOf(running.statsUrl),
    RELAY_PORT: portOf(`tcp://${running.relayAddress}`),
  };
}

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A program that ends by itself. Rejects when it cannot be started or does not end in time. */
export async function run(
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Finished> {
  const child = spawn(program, args, {
    env: { ...plainEnvironment(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: RUN_MS_MAX,
  });
  const closed = once(child, "close");
  const [stdout, stderr, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  if (signal !== null) throw new Error(`${program} ${args.join(" ")} ended by ${signal}:\n${stdout}${stderr}`);
  return { code: code as number, stdout, stderr };
}

/** `millrace <args>` to its end. */
export function runMillrace(args: readonly string[], env: Record<string, string> = {}): Promise<Finished> {
  return run(process.execPath, [COMMANDS, ...args], env);
}

/** A directory that goes with the test. */
export async function temporaryDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "millrace-e2e-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** The answer of the history API at this path, which has to be one. */
export async function askStats<T>({ statsUrl }: RunningStandalone, path: string): Promise<T> {
  const answer = await fetch(statsUrl + path);
  const body = await answer.text();
  if (answer.status !== 200) throw new Error(`${path}: ${answer.status}: ${body}`);
  return JSON.parse(body) as T;
}
