// Clients of other vendors, unmodified and with their defaults, while the gateway is killed with -9 and comes back on its port
// and data: all at once, around one kill. Each sends numbered events, hears that they are safe, and sends as many more, of which
// those that are stored when the kill comes have no answer.
import { fileURLToPath } from "node:url";
import { jitsuAnalytics } from "@jitsu/js";
import { OpenMeter } from "@openmeter/sdk";
import { Analytics } from "@segment/analytics-node";
import { CloudEvent, emitterFor, httpTransport } from "cloudevents";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { DRIVERS, type DriverProgram, isAvailable } from "../kit/drivers.ts";
import { type Gate, type LostAnswers, startGate, startLostAnswers } from "../kit/lost-answers.ts";
import {
  type RunningStandalone,
  run,
  runMillrace,
  samePorts,
  startStandalone,
  temporaryDirectory,
} from "../kit/standalone.ts";
import { until } from "../kit/until.ts";

const KEY = "segment-key";
const COUNT = 10;
/** One request of posthog-go, which has no flush. */
const GO_COUNT = 250;
const RUDDER = fileURLToPath(new URL("../kit/rudder-killed.ts", import.meta.url));
/** The first run fetches the libraries. */
const TIMEOUT_MS = 600_000;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let standalone: RunningStandalone;
let link: LostAnswers;
beforeAll(async () => {
  directory = await temporaryDirectory();
  standalone = await start();
  link = await startLostAnswers(() => Number(new URL(standalone.url).port));
});
afterAll(async () => {
  await link?.[Symbol.asyncDispose]();
  await standalone?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
});

function start(env = {}): Promise<RunningStandalone> {
  return startStandalone({ dataDir: directory.path, env: { PUBLIC_API_KEYS: KEY, ...env } });
}

interface Client {
  name: string;
  /** How many events it sends before the kill is near, and how many again. */
  count: number;
  /** It sends again by itself what has no answer. The others say which events they were told nothing about. */
  retries: boolean;
  /** Resolves, when all is sent that it will ever send, with the numbers of the events that failed. */
  send(gate: Gate, isAway: Promise<void>): Promise<number[]>;
}

/** Of a program that ends by itself, and says how many events failed. */
function program(name: string, run: (gate: string) => Promise<string[]>, count = COUNT): Client {
  return {
    ...{ name, count, retries: true },
    async send({ url }) {
      expect([name, await run(url)]).toEqual([name, ["failed 0"]]);
      return [];
    },
  };
}

/** A process of its own, because this library ends its process when a request fails for good. */
const rudderNode = program("@rudderstack/rudder-sdk-node", async (gate) => {
  const { name } = rudderNode;
  const { code, stdout, stderr } = await run(process.execPath, [RUDDER, link.url, KEY, gate, name, String(COUNT)]);
  expect([code, stderr]).toEqual([0, expect.stringContaining("ECONNRESET")]);
  return stdout.trim().split("\n");
});

/**
 * A client that sends each event once, whatever becomes of it: COUNT before the gate, COUNT behind it, and one to a gateway
 * that is away. `sendOne` resolves with whether the client said that it was taken.
 */
function onceOnly(name: string, sendOne: (n: number) => Promise<boolean>): Client {
  return {
    ...{ name, count: COUNT, retries: false },
    async send(gate, isAway) {
      const sendAll = (from: number) =>
        Promise.all(Array.from({ length: COUNT }, async (_, at) => ((await sendOne(from + at)) ? [] : [from + at])));
      const before = await sendAll(0);
      await gate.pass();
      const behind = sendAll(COUNT);
      await isAway;
      const last = (await sendOne(2 * COUNT)) ? [] : [2 * COUNT];
      return [...before, ...(await behind), last].flat();
    },
  };
}

/** Whether it resolves. */
function resolves(sent: Promise<unknown>): Promise<boolean> {
  return sent.then(
    () => true,
    () => false,
  );
}

const analyticsNode: Client = {
  ...{ name: "@segment/analytics-node", count: COUNT, retries: true },
  async send(gate) {
    const { name } = analyticsNode;
    const analytics = new Analytics({ writeKey: KEY, host: link.url });
    const failures: unknown[] = [];
    analytics.on("error", (error) => failures.push(error));
    const track = (n: number) => analytics.track({ userId: name, event: "killed", properties: { client: name, n } });
    for (let n = 0; n < COUNT; n++) track(n);
    await analytics.flush();
    await gate.pass();
    for (let n = COUNT; n < 2 * COUNT; n++) track(n);
    analytics.track({ userId: name, event: "e".repeat(300) });
    await analytics.closeAndFlush();
    expect(failures).toEqual([]);
    return [];
  },
};

const jitsu: Client = {
  ...{ name: "@jitsu/js", count: COUNT, retries: false },
  async send(gate, isAway) {
    const { name } = jitsu;
    // It logs a failure, without saying of which event, and resolves all the same.
    using errors = vi.spyOn(console, "error").mockImplementation(() => {});
    const client = jitsuAnalytics({ host: link.url, writeKey: `web:${KEY}` });
    const track = (n: number) => client.track("killed", { client: name, n }).then(() => true);
    await onceOnly(name, track).send(gate, isAway);
    expect(errors).toHaveBeenCalledTimes(COUNT + 1);
    return numbers(COUNT, 2 * COUNT + 1);
  },
};

const cloudEvents = onceOnly("cloudevents", async (n) => {
  const emit = emitterFor(httpTransport(`${link.url}/events`));
  const event = new CloudEvent({ type: "killed", source: "/npm", data: { client: "cloudevents", n } });
  const sent = emit(event, { headers: { authorization: `Bearer ${KEY}` } }) as Promise<{ body: string }>;
  // Whatever the status, it resolves; a refusal has a body.
  return (await resolves(sent)) && (await sent).body === "";
});

const openMeter = onceOnly("@openmeter/sdk", (n) => {
  const client = new OpenMeter({ baseUrl: link.url, apiKey: KEY });
  return resolves(client.events.ingest({ type: "killed", subject: "s", data: { client: "@openmeter/sdk", n } }));
});

function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, at) => from + at);
}

/** By client, the numbers of its events, in their order. */
async function stored(): Promise<Map<string, number[]>> {
  const sql = `SELECT JSONExtractString(properties, 'client') AS client,
      arraySort(groupArray(toInt32(JSONExtractInt(properties, 'n')))) AS numbers
    FROM millrace.events WHERE event = 'killed' GROUP BY client FORMAT JSONEachRow`;
  const lines = (await standalone.query(sql)).split("\n").filter((line) => line !== "");
  const rows = lines.map((line) => JSON.parse(line) as { client: string; numbers: number[] });
  return new Map(rows.map((row) => [row.client, row.numbers]));
}

/** By client, the numbers of the events that failed, once all clients have ended. */
async function killAmid(clients: readonly Client[]): Promise<Map<string, number[]>> {
  await using gate = await startGate();
  const away = Promise.withResolvers<void>();
  const sent = Promise.all(clients.map(async (each) => [each.name, await each.send(gate, away.promise)] as const));
  const kill = async () => {
    await until(() => gate.waiting === clients.length, "all are at the gate", TIMEOUT_MS);
    link.hold();
    gate.open();
    const isStored = ({ name, count, retries }: Client, found: ReadonlyMap<string, number[]>) =>
      (found.get(name)?.length ?? 0) >= (retries ? count + 1 : 2 * count);
    await until(async () => {
      const found = await stored();
      return clients.every((each) => isStored(each, found));
    }, "each has events stored that it was not told about");
    link.away();
    await standalone.process.stop("SIGKILL");
    away.resolve();
    await until(() => link.waiting >= clients.filter(({ retries }) => !retries).length, "those who sent once more");
    await using _killed = standalone;
    standalone = await start(samePorts(standalone));
    link.back();
    return sent;
  };
  // A client that fails ends the test at once.
  return new Map(await Promise.race([kill(), sent]));
}

/** Each event is there once that the client was told is safe, or that it sends again by itself. */
async function expectOnce(clients: readonly Client[]): Promise<void> {
  const failed = await killAmid(clients);
  await until(async () => {
    const found = await stored();
    return clients.every(({ name, count }) => (found.get(name)?.length ?? 0) >= 2 * count);
  }, "all that was sent");
  const found = await stored();
  for (const { name, count, retries } of clients) {
    expect([name, found.get(name)]).toEqual([name, numbers(0, 2 * count)]);
    // Stored before the kill, and not sent again; the last one met a gateway that was away, and is lost.
    expect([name, failed.get(name)]).toEqual([name, retries ? [] : numbers(count, 2 * count + 1)]);
  }
}

describe("killed while they send: what they were told is safe and what they send again is there once", () => {
  it("libraries for Node", () => expectOnce([analyticsNode, rudderNode, jitsu, cloudEvents, openMeter]));

  it.skipIf(![DRIVERS.posthogPythonKilled, DRIVERS.segmentPythonKilled].every(isAvailable))(
    "libraries for Python",
    { timeout: TIMEOUT_MS },
    () => {
      const { posthogPythonKilled: posthog, segmentPythonKilled: segment } = DRIVERS;
      const library = (name: string, driver: DriverProgram, argument: string) =>
        program(name, (gate) => driver.lines(link.port, KEY, gate, argument, name, String(COUNT)));
      return expectOnce([
        library("posthog, capture mode v0", posthog, "v0"),
        library("posthog, capture mode v1", posthog, "v1"),
        library("segment-analytics-python", segment, "segment"),
        library("rudder-sdk-python", segment, "rudder"),
      ]);
    },
  );

  it.skipIf(!isAvailable(DRIVERS.posthogGo))("posthog-go", { timeout: TIMEOUT_MS }, () => {
    const lines = (gate: string) => DRIVERS.posthogGo.lines(link.port, KEY, "posthog-go", gate, String(GO_COUNT));
    return expectOnce([program("posthog-go", lines, GO_COUNT)]);
  });

  it("and all that the log has are rows, each once", async () => {
    const verify = await runMillrace(["verify", "--wait", "30s"], standalone.env);
    expect(verify.stdout, verify.stderr).toMatch(/ 0 missing, 0 doubled\n$/);
  });
});
