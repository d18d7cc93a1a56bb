// What a newcomer may expect of `millrace start`: the whole of it, over real sockets, with real kills.
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ownerHeaders } from "#lib/warehouse/owner-key.ts";
import { childrenOf } from "../kit/os-processes.ts";
import { runPacedLoad } from "../kit/paced-load.ts";
import { atMost } from "../kit/patience.ts";
import { spawnMillrace } from "../kit/processes.ts";
import {
  type RunningStandalone,
  run,
  runMillrace,
  samePorts,
  startStandalone,
  temporaryDirectory,
} from "../kit/standalone.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BUF = join(ROOT, "node_modules/.bin/buf");
const FLIGHTS = join(ROOT, "node_modules/vega-datasets/data/flights-20k.json");
const PUBLISH = "millrace.events.v1.EventService/Publish";
const VISIBLE_MS_MAX = 2000;
const STOP_MS_MAX = 10_000;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;

beforeAll(async () => {
  directory = await temporaryDirectory();
  standalone = await startStandalone({ dataDir: join(directory.path, "data") });
});
afterAll(async () => {
  await standalone?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
});

const json = ["-H", "content-type: application/json"];

/** Sends one event of this name; resolves with what was printed. */
const senders: Record<string, (event: string) => Promise<string>> = {
  "curl to POST /events": (event) => {
    const body = { event_type: event, source: "landing", user_id: "u1", value: 1, created_at: "2026-03-27T12:00:00Z" };
    return curl(...json, "-d", JSON.stringify(body), `${standalone.url}/events`);
  },
  "curl with Connect's JSON": (event) =>
    curl(...json, "-d", JSON.stringify({ events: [{ event, distinctId: "u1" }] }), `${standalone.url}/${PUBLISH}`),
  "buf curl over Connect": (event) => bufCurl("connect", event),
  "buf curl over gRPC": (event) => bufCurl("grpc", event, "--http2-prior-knowledge"),
  "buf curl over gRPC-Web": (event) => bufCurl("grpcweb", event),
};

async function curl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run("curl", ["--silent", "--show-error", "--fail-with-body", ...args]);
  expect(code, `curl: ${stdout}${stderr}`).toBe(0);
  return stdout.trim();
}

async function bufCurl(protocol: string, event: string, ...options: string[]): Promise<string> {
  const data = JSON.stringify({ events: [{ event, distinctId: "u1" }] });
  const args = ["curl", "--schema", join(ROOT, "proto"), "--protocol", protocol, ...options, "-d", data];
  // HOME: buf keeps a cache, which must not be the user's own.
  const { code, stdout, stderr } = await run(BUF, [...args, `${standalone.url}/${PUBLISH}`], { HOME: directory.path });
  expect(code, stderr).toBe(0);
  return JSON.stringify(JSON.parse(stdout));
}

function verify(...args: string[]) {
  return runMillrace(["verify", "--wait", "30s", ...args], standalone.env);
}

function importFlights(event: string): string[] {
  const columns = ["--time", "date", "--value", "delay", "--source", "origin"];
  return ["import", FLIGHTS, "--event", event, ...columns, "--checkpoint", join(directory.path, `${event}.checkpoint`)];
}

const countOf = async (event: string) =>
  Number(await standalone.query(`SELECT count() FROM millrace.events WHERE event = '${event}'`));

/** Rows of a load's events by id, against the ids that were acknowledged. */
async function accountOf(acked: ReadonlySet<string>) {
  const text = await standalone.query("SELECT uuid FROM millrace.events WHERE source = 'web'");
  const rows = text.split("\n").filter((id) => acked.has(id));
  return { acked: acked.size, rows: rows.length, distinct: new Set(rows).size };
}

const onceEach = (acked: ReadonlySet<string>) => ({ acked: acked.size, rows: acked.size, distinct: acked.size });

it("is ready after printing where events and queries go", async () => {
  const printed = standalone.process.lines.join("\n");
  expect(printed).toContain("Millrace is ready.");
  expect(printed).toContain(join(directory.path, "data"));
  expect(await (await fetch(`${standalone.url}/readyz`)).json()).toMatchObject({ status: "ready" });
  expect(await (await fetch(`${standalone.clickhouseUrl}/ping`)).text()).toBe("Ok.\n");
});

it.each(Object.entries(senders))("an event sent by %s is a row on 8123 within two seconds", async (_, send) => {
  const event = `sent_${randomUUID().slice(0, 8)}`;
  expect(['{"status":"accepted"}', '{"accepted":1}']).toContain(await send(event));
  const sql = `SELECT event, distinct_id FROM millrace.events WHERE event = '${event}'`;
  const query = `${standalone.clickhouseUrl}/?query=${encodeURIComponent(sql)}`;
  await vi.waitFor(async () => expect(await curl(query)).toBe(`${event}\tu1`), {
    timeout: VISIBLE_MS_MAX,
    interval: 50,
  });
});

describe("an import of 20,000 flights", () => {
  it("lands 20,000 rows, and again none", async () => {
    const args = importFlights("flight");
    expect(await runMillrace(args, standalone.env)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^imported 20000, refused 0, 20000 lines/),
    });
    await vi.waitFor(async () => expect(await countOf("flight")).toBe(20_000), { timeout: 10_000, interval: 50 });
    expect(await runMillrace(args, standalone.env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("already imported (20000 lines)"),
    });
    expect(await runMillrace([...args, "--force"], standalone.env)).toMatchObject({ code: 0 });
    const offsets = Number((await acceptedByRpc()) ?? 0);
    await vi.waitFor(async () => expect(await committedOffsets()).toBeGreaterThanOrEqual(offsets), { timeout: 10_000 });
    expect(await countOf("flight")).toBe(20_000);
  });

  it("killed with -9 half-way and run again is exactly 20,000 rows", async () => {
    const args = importFlights("flight_killed");
    const before = await acceptedByRpc();
    const importing = spawnMillrace(args, standalone.env);
    await vi.waitFor(async () => expect(await acceptedByRpc()).toBeGreaterThan(before + 2000), {
      timeout: 20_000,
      interval: 2,
    });
    await importing.stop("SIGKILL");
    const sent = (await acceptedByRpc()) - before;
    expect(sent, "the kill came after the end; the test proves nothing").toBeLessThan(20_000);
    expect(await runMillrace(args, standalone.env)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^imported 20000, refused 0/),
    });
    await vi.waitFor(async () => expect(await countOf("flight_killed")).toBe(20_000), { timeout: 10_000 });
    expect((await verify()).stdout).toMatch(/ 0 missing, 0 doubled\n$/);
    expect(await countOf("flight_killed")).toBe(20_000);
  });
});

async function acceptedByRpc(): Promise<number> {
  const metrics = await (await fetch(`${standalone.url}/metrics`)).text();
  return Number(/^millrace_events_accepted_total\{dialect="connect"\} (\d+)/m.exec(metrics)?.[1] ?? 0);
}

/** Offsets that are rows or outcomes. */
async function committedOffsets(): Promise<number> {
  const sql = "SELECT (SELECT count() FROM millrace.events_raw) + (SELECT count() FROM millrace.log_outcomes)";
  return Number(await standalone.query(sql));
}

describe("millrace verify beside the running standalone", () => {
  it("says that nothing is missing, finds a row deleted by hand, and brings it back", async () => {
    expect(await verify()).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/\nverify: \d+ offsets accounted for, 0 missing, 0 doubled\n$/),
    });
    const row = "SELECT uuid, event, properties, log_time FROM millrace.events WHERE log_offset = 3";
    const before = await standalone.query(row);
    const remove = ["--data-binary", "ALTER TABLE millrace.events_raw DELETE WHERE log_offset = 3"];
    const url = `${standalone.clickhouseUrl}/?mutations_sync=1`;
    await expect(standalone.query(remove[1] ?? "")).rejects.toThrow("The tables of millrace are read-only here");
    expect(await standalone.query(row)).toBe(before);
    const [[name, key] = []] = Object.entries(ownerHeaders(standalone.dataDir, standalone.clickhouseUrl));
    await curl("--header", `${name}: ${key}`, ...remove, url);
    expect(await standalone.query(row)).toBe("");

    const found = await verify();
    expect(found.code).toBe(1);
    expect(found.stdout).toContain("missing: partition 0, offset 3\n");
    expect(found.stdout).toMatch(/ 1 missing, 0 doubled\n$/);

    const repaired = await verify("--repair");
    expect(repaired.code).toBe(0);
    expect(repaired.stdout).toMatch(/^repaired 1 offsets\n/);
    expect(await standalone.query(row)).toBe(before);
    expect(await verify()).toMatchObject({ code: 0 });
  });
});

describe("killed", () => {
  it("its ClickHouse process, it starts that again by itself and loses nothing", async () => {
    const load = runPacedLoad({ url: standalone.url, eventsPerSecond: 1000, seconds: 3 });
    const before = await acceptedByRpc();
    await vi.waitFor(async () => expect(await acceptedByRpc()).toBeGreaterThan(before + 500), { timeout: 5000 });
    const [child] = await childrenOf(standalone.process.pid);
    process.kill(child as number, "SIGKILL");
    await standalone.process.logged("the ClickHouse process runs again");
    const { acked } = await load;
    await vi.waitFor(async () => expect(await accountOf(acked)).toEqual(onceEach(acked)), {
      timeout: 30_000,
      interval: 100,
    });
    expect(acked.size).toBe(3000);
    expect(await childrenOf(standalone.process.pid)).not.toContain(child);
    expect(await verify()).toMatchObject({ code: 0 });
  });

  it("with -9 in the middle of a load, it has everything acknowledged once when it is started again", async () => {
    const load = runPacedLoad({ url: standalone.url, eventsPerSecond: 1000, seconds: 4 });
    const before = await acceptedByRpc();
    await vi.waitFor(async () => expect(await acceptedByRpc()).toBeGreaterThan(before + 1500), { timeout: 10_000 });
    await standalone.process.stop("SIGKILL");
    // At once: the ClickHouse process of the dead one may still be closing.
    standalone = await startStandalone({ dataDir: standalone.dataDir, env: samePorts(standalone) });
    const { acked, retriedRequests } = await load;
    expect(retriedRequests, "no request met the kill; the test proves nothing").toBeGreaterThan(0);
    await vi.waitFor(async () => expect(await accountOf(acked)).toEqual(onceEach(acked)), {
      timeout: 30_000,
      interval: 100,
    });
    expect(acked.size).toBe(4000);
    expect(await verify()).toMatchObject({ code: 0 });
  });
});

describe("told to stop by a SIGTERM to its whole group", () => {
  it("it ends with 0 within ten seconds, under load, without an error, and has all data when it is started again", async () => {
    const load = runPacedLoad({ url: standalone.url, eventsPerSecond: 500, seconds: 3 });
    const before = await acceptedByRpc();
    await vi.waitFor(async () => expect(await acceptedByRpc()).toBeGreaterThan(before + 300), { timeout: 5000 });
    const begun = performance.now();
    const linesBefore = standalone.process.lines.length;
    for (const child of await childrenOf(standalone.process.pid)) process.kill(child, "SIGTERM");
    expect(await standalone.process.stop("SIGTERM")).toBe(0);
    expect(performance.now() - begun).toBeLessThan(atMost(STOP_MS_MAX));
    const lines = standalone.process.lines.slice(linesBefore);
    expect(lines.filter((line) => /"level":"(?:warn|error|fatal)"/.test(line))).toEqual([]);
    expect(await clickhouseAnswers()).toBe(false);

    standalone = await startStandalone({ dataDir: standalone.dataDir, env: samePorts(standalone) });
    const { acked } = await load;
    await vi.waitFor(async () => expect(await accountOf(acked)).toEqual(onceEach(acked)), { timeout: 20_000 });
    expect(await countOf("flight")).toBe(20_000);
    expect(await verify()).toMatchObject({ code: 0 });
  });
});

function clickhouseAnswers(): Promise<boolean> {
  return fetch(`${standalone.clickhouseUrl}/ping`).then(
    () => true,
    () => false,
  );
}
