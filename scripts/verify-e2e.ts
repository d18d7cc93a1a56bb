// `npm run verify:e2e -- --url URL --clickhouse-url URL`: sends events through a running stack and looks whether each is
// stored once and as sent. Exit code 0: all are; 1: something is missing, doubled, changed or does not answer; 2: wrong
// arguments. What it sends stays: events named millrace_verify_e2e, one person a run and partition key.
import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { count, duration, httpUrl, secret, text } from "#lib/config/settings.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseOptions, clickhouseSettings } from "#lib/warehouse/clickhouse-settings.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";

const EVENT = "millrace_verify_e2e";
const COLLECTOR = "verify";
/** So many routing keys, so that most partitions take part. */
const KEYS = 32;
/** Of them by POST /events, one request each; the others together. */
const SINGLE_EVENTS = 8;
const HTTP_TIMEOUT_MS = 15_000;
const LOOK_MS = 250;

const schema = z.object({
  url: httpUrl("http://localhost:8080").describe("Address of the gateway."),
  apiKey: secret().describe("Key for the gateway, if it requires one."),
  ...clickhouseSettings,
  events: count(320, { min: 2 * KEYS, max: 5_000 }).describe("How many events to send."),
  wait: duration("60s", { min: 1_000 }).describe("Longest wait for them to be stored."),
  statsUrl: httpUrl().describe("Address of stats, to be asked as well."),
  statsToken: secret().describe("Its token."),
  relay: text().describe("host:port of a relay, to be sent a point as well."),
  relayToken: secret().describe("Its token."),
});

type Config = z.output<typeof schema>;

/** Something does not work; the message names it. */
class CheckError extends Error {
  override readonly name = "CheckError";
}

export interface SentEvent {
  id: string;
  distinctId: string;
  value: number;
}

export interface StoredEvent {
  id: string;
  distinctId: string;
  value: number | null;
  n: number | null;
}

/** What is wrong with the rows of a run, in words; empty when each event is there once and as sent. */
export function judgeRows(sent: readonly SentEvent[], rows: readonly StoredEvent[]): string[] {
  const byId = Map.groupBy(rows, ({ id }) => id);
  const ids = new Set(sent.map(({ id }) => id));
  const faults = sent.flatMap(({ id, distinctId, value }) => {
    const [row, ...more] = byId.get(id) ?? [];
    if (!row) return [`${id} is not stored`];
    if (more.length > 0) return [`${id} is stored ${more.length + 1} times`];
    const same = row.distinctId === distinctId && row.value === value && row.n === value;
    return same ? [] : [`${id} was sent as ${distinctId} ${value} and is stored as ${JSON.stringify(row)}`];
  });
  const others = [...byId.keys()].filter((id) => !ids.has(id)).map((id) => `${id} is stored and was never sent`);
  return [...faults, ...others];
}

async function main(argv: readonly string[], env: Record<string, string | undefined>): Promise<number> {
  const outcome = parseConfig(schema, {
    argv,
    env,
    command: "npm run verify:e2e --",
    summary: "Sends events through a running stack and looks whether each is stored exactly once.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const warehouse = createClickHouseWarehouse(clickhouseOptions(config));
  try {
    const run = randomUUID();
    await verifyEvents(config, warehouse, run);
    if (config.relay !== undefined) await verifyRelay(config, config.relay, warehouse, run);
    if (config.statsUrl !== undefined) await verifyStats(config, config.statsUrl);
    process.stdout.write("ok\n");
    return 0;
  } catch (error) {
    if (!(error instanceof CheckError || error instanceof WarehouseError)) throw error;
    const where = error instanceof WarehouseError ? `ClickHouse at ${config.clickhouseUrl}: ` : "";
    process.stderr.write(`FAILED ${where}${error.message}\n`);
    return 1;
  } finally {
    await warehouse[Symbol.asyncDispose]();
  }
}

/**
 * Every key gets its events, the same ones once more as a caller repeats itself, and a last one behind them. The log keeps
 * the order of a key, so when the last is stored all before it have been decided, the repetitions too.
 */
async function verifyEvents(config: Config, warehouse: Warehouse, run: string): Promise<void> {
  const sent = Array.from({ length: config.events }, (_, at): SentEvent => {
    return { id: randomUUID(), distinctId: `${EVENT}:${run}:${at % KEYS}`, value: at };
  });
  await ask(`${config.url}/readyz`, {});
  const fences = sent.slice(-KEYS);
  const others = sent.slice(0, -KEYS);
  for (const event of others.slice(0, SINGLE_EVENTS)) await postEvent(config, event);
  await publish(config, others.slice(SINGLE_EVENTS));
  await publish(config, others);
  await publish(config, fences);
  say(`events: ${sent.length} acknowledged, ${others.length} of them twice`);

  const begun = performance.now();
  let rows: StoredEvent[] = [];
  do {
    rows = await storedEvents(warehouse, run);
    const stored = new Set(rows.map(({ id }) => id));
    if (fences.every(({ id }) => stored.has(id))) break;
    await sleep(LOOK_MS);
  } while (performance.now() - begun < config.wait);
  const faults = judgeRows(sent, rows);
  if (faults.length > 0) {
    const shown = faults.slice(0, 10).map((fault) => `  ${fault}`);
    const waited = Math.round((performance.now() - begun) / 1000);
    throw new CheckError(`${faults.length} of ${sent.length} events after ${waited} s:\n${shown.join("\n")}`);
  }
  say(`events: ${rows.length} rows, each event once and as sent, ${seconds(begun)} s after the last answer`);
}

async function storedEvents(warehouse: Warehouse, run: string): Promise<StoredEvent[]> {
  const sql = `SELECT toString(uuid) AS id, distinct_id AS distinctId, value,
      JSONExtract(properties, 'n', 'Nullable(Float64)') AS n
    FROM events_raw
    WHERE event = {event:String} AND startsWith(distinct_id, {prefix:String}) AND timestamp > now64(6) - INTERVAL 1 HOUR`;
  return warehouse.query<StoredEvent>(sql, { params: { event: EVENT, prefix: `${EVENT}:${run}:` } });
}

async function postEvent(config: Config, { id, distinctId, value }: SentEvent): Promise<void> {
  const created = new Date().toISOString();
  const event = { event_type: EVENT, source: "verify", user_id: distinctId, value, created_at: created };
  await ask(`${config.url}/events`, { ...keyOf(config), body: { ...event, id, properties: { n: value } } });
}

async function publish(config: Config, events: readonly SentEvent[]): Promise<void> {
  const body = {
    events: events.map(({ id, distinctId, value }) => ({
      ...{ id, distinctId, value, event: EVENT, source: "verify", time: new Date().toISOString() },
      properties: { n: value },
    })),
  };
  const answer = await ask(`${config.url}/millrace.events.v1.EventService/Publish`, { ...keyOf(config), body });
  const { accepted = 0 } = JSON.parse(answer) as { accepted?: number };
  if (accepted !== events.length) throw new CheckError(`the gateway took ${accepted} of ${events.length}: ${answer}`);
}

function keyOf({ apiKey }: Config): { token?: string } {
  return apiKey === undefined ? {} : { token: apiKey };
}

/** One point over the line protocol, found once among the stored ones. */
async function verifyRelay(config: Config, address: string, warehouse: Warehouse, run: string): Promise<void> {
  const [, host = "", port = ""] = /^(.+):(\d+)$/.exec(address) ?? [];
  if (host === "") throw new CheckError(`--relay ${address}: expected host:port`);
  const id = `${EVENT}-${run}`;
  const socket = connect({ host, port: Number(port), timeout: HTTP_TIMEOUT_MS });
  socket.on("timeout", () => socket.destroy(new Error("no answer in time")));
  try {
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    socket.write(`id ${id}${config.relayToken === undefined ? "" : ` ${config.relayToken}`}\n`);
    const first = await lines.next();
    if (first.value !== "ok") throw new CheckError(`the relay at ${address} answered "${first.value ?? ""}" to id`);
    socket.write(`add ${COLLECTOR}:\ngot ${COLLECTOR}-value:1\n`);
    const begun = performance.now();
    let found = 0;
    do {
      await sleep(LOOK_MS);
      const sql = "SELECT toFloat64(count()) AS found FROM points WHERE relay_id = {id:String} AND value = 1";
      found = (await warehouse.query<{ found: number }>(sql, { params: { id } }))[0]?.found ?? 0;
    } while (found === 0 && performance.now() - begun < config.wait);
    if (found !== 1) throw new CheckError(`the point sent to the relay at ${address} is stored ${found} times`);
    say(`relay: 1 point, stored once after ${seconds(begun)} s`);
  } catch (error) {
    if (error instanceof CheckError || error instanceof WarehouseError) throw error;
    throw new CheckError(`the relay at ${address}: ${(error as Error).message}`);
  } finally {
    socket.destroy();
  }
}

async function verifyStats(config: Config, url: string): Promise<void> {
  await ask(`${url}/readyz`, {});
  const auth = config.statsToken === undefined ? {} : { token: config.statsToken };
  await ask(`${url}/millrace.stats.v1.StatsService/ListMetrics`, { ...auth, body: {} });
  say("stats: answers");
}

/** The body of a 200; anything else is a CheckError that says what came instead. */
async function ask(url: string, { token, body }: { token?: string; body?: unknown }): Promise<string> {
  const headers: Record<string, string> = body === undefined ? {} : { "content-type": "application/json" };
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const failed = (error: Error) => {
    throw new CheckError(`${url}: ${error.message}${error.cause instanceof Error ? `: ${error.cause.message}` : ""}`);
  };
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(HTTP_TIMEOUT_MS) }).catch(failed);
  const answer = await response.text().catch(failed);
  if (response.status !== 200) throw new CheckError(`${url} answered ${response.status}: ${answer.slice(0, 500)}`);
  return answer;
}

function seconds(begun: number): string {
  return ((performance.now() - begun) / 1000).toFixed(1);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), process.env);
