import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Event, EventService, type PublishRequest, RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";

const flights = new URL("../../node_modules/vega-datasets/data/flights-20k.json", import.meta.url).pathname;
const mainUrl = new URL("../../commands/import/main.ts", import.meta.url).href;
const runner = `import { main } from ${JSON.stringify(mainUrl)};
process.exitCode = await main(process.argv.slice(1), process.env);`;

/** What arrived, as a gateway with tables behind it would see it. */
interface Arrival {
  event: Event;
  checkStored: boolean;
  apiKey: string | null;
}

interface TestGateway {
  url: string;
  arrivals: Arrival[];
  requests: number;
  ids(): Set<string>;
  [Symbol.asyncDispose](): Promise<void>;
}

type Answer =
  | "take"
  | "drop the answer"
  | "reset before"
  | "busy"
  | "down"
  | "locked"
  | "too large"
  | ((event: Event) => Rejected);
type Rejected = { retryable: boolean } | undefined;

/** A real EventService; `answer` says what happens to each request, counted from 1. */
async function startGateway(answer: (request: number, events: readonly Event[]) => Answer): Promise<TestGateway> {
  const gateway = { arrivals: [] as Arrival[], requests: 0 };
  const resets = new WeakSet<AbortSignal>();
  const take = (request: PublishRequest, context: HandlerContext, events: readonly Event[]): void => {
    const apiKey = context.requestHeader.get("authorization");
    for (const event of events) gateway.arrivals.push({ event, checkStored: request.checkStored, apiKey });
  };
  const handler = connectNodeAdapter({
    routes: (router) => {
      router.rpc(EventService.method.publish, (request, context) => {
        gateway.requests += 1;
        const chosen = answer(gateway.requests, request.events);
        if (chosen === "reset before" || chosen === "drop the answer") {
          if (chosen === "drop the answer") take(request, context, request.events);
          resets.add(context.signal);
          throw new ConnectError("reset", Code.Aborted, { "x-test-reset": "1" });
        }
        if (chosen === "busy") throw new ConnectError("full", Code.ResourceExhausted, { "retry-after": "1" });
        if (chosen === "down") throw new ConnectError("log away", Code.Unavailable);
        if (chosen === "locked") throw new ConnectError("no key", Code.Unauthenticated);
        if (chosen === "too large") throw new ConnectError("message is too large", Code.ResourceExhausted);
        if (chosen === "take") {
          take(request, context, request.events);
          return { accepted: request.events.length };
        }
        const verdicts = request.events.map(chosen);
        take(
          request,
          context,
          request.events.filter((_event, index) => verdicts[index] === undefined),
        );
        const rejected = verdicts.flatMap((verdict, index) =>
          verdict === undefined
            ? []
            : [{ index, code: RejectionCode.INVALID, field: "event", message: "not this one", ...verdict }],
        );
        return { accepted: request.events.length - rejected.length, rejected };
      });
    },
  });
  const server = createServer((request, response) => {
    const writeHead = response.writeHead.bind(response);
    // The handler cannot reach the socket: its marked errors become a cut connection here.
    response.writeHead = ((status: number, ...rest: never[]) => {
      const marked = rest.some((each) => JSON.stringify(each ?? "").includes("x-test-reset"));
      if (marked) request.socket.resetAndDestroy();
      return writeHead(status, ...rest);
    }) as typeof response.writeHead;
    handler(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.assign(gateway, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ids: () => new Set(gateway.arrivals.map(({ event }) => event.id)),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  });
}

let directory: string;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-import-"));
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
});
afterAll(() => rm(directory, { recursive: true, force: true }));

interface Run {
  child: ChildProcess;
  exit: Promise<{ code: number | null; out: string; err: string }>;
}

function start(args: string[], env: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, ["--input-type=module", "-e", runner, "--", ...args], {
    env: { ...process.env, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  children.add(child);
  let [out, err] = ["", ""];
  child.stdout.on("data", (text) => {
    out += text;
  });
  child.stderr.on("data", (text) => {
    err += text;
  });
  const exit = once(child, "close").then(([code]: (number | null)[]) => {
    children.delete(child);
    return { code: code ?? null, out, err };
  });
  return { child, exit };
}

const run = (args: string[], env?: Record<string, string>) => start(args, env).exit;

let files = 0;
async function file(name: string, content: string | Buffer): Promise<string> {
  files += 1;
  const path = join(directory, `${files}-${name}`);
  await writeFile(path, content);
  return path;
}

const flightOptions = ["--event", "flight", "--time", "date", "--value", "delay", "--source", "origin"];

describe("a whole file", () => {
  it("lands every row once, mapped, and is not sent a second time", async () => {
    await using gateway = await startGateway(() => "take");
    const path = await file("flights.json", await readFile(flights));
    const args = [path, ...flightOptions, "--distinct-id", "destination", "--url", gateway.url, "--tz", "UTC"];
    const first = await run(args, { MILLRACE_API_KEY: "k1" });
    // A machine that needs longer than five seconds shows how far it is.
    expect({ ...first, err: first.err.replaceAll(/^\[.*\n/gm, "") }).toMatchObject({ code: 0, err: "" });
    expect(first.out).toMatch(/^imported 20000, refused 0, 20000 lines in \d+\.\d s\n$/);
    expect(gateway.arrivals).toHaveLength(20000);
    expect(gateway.ids().size).toBe(20000);
    expect(gateway.arrivals.every(({ checkStored, apiKey }) => !checkStored && apiKey === "Bearer k1")).toBe(true);
    const row = gateway.arrivals.find(({ event }) => event.propertiesKind.value === '{"distance":1750}')?.event;
    expect(row).toMatchObject({ event: "flight", distinctId: "LAS", source: "DTW", value: 66 });
    expect(row?.time).toMatchObject({ seconds: BigInt(Date.UTC(2001, 0, 1, 0, 47) / 1000), nanos: 0 });

    const second = await run(args);
    expect(second).toMatchObject({ code: 0, out: "already imported (20000 lines); --force sends it again\n" });
    expect(gateway.arrivals).toHaveLength(20000);

    const ids = gateway.ids();
    const moved = await file("moved.json", await readFile(flights));
    gateway.arrivals.length = 0;
    expect((await run([moved, ...args.slice(1)])).code).toBe(0);
    expect(gateway.ids()).toEqual(ids);

    gateway.arrivals.length = 0;
    expect((await run([...args, "--force"])).code).toBe(0);
    expect(gateway.ids()).toEqual(ids);
    expect(gateway.arrivals.every(({ checkStored }) => checkStored)).toBe(true);
  });

  it("counts and names rows that cannot be mapped or are rejected, and lands the others", async () => {
    await using gateway = await startGateway(
      () => (event) => (event.distinctId === "b" ? { retryable: false } : undefined),
    );
    const path = await file(
      "people.csv",
      "who,when,n\na,2001-01-14,1\nb,2001-01-15,2\nc,soon,3\nd,2001-01-16,x\ne,2001-01-17,\n",
    );
    const options = ["--event", "seen", "--distinct-id", "who", "--time", "when", "--value", "n", "--url", gateway.url];
    const { code, out, err } = await run([path, ...options]);
    expect(code).toBe(3);
    expect(out).toContain("imported 2, refused 3, 5 lines");
    expect(err).toContain("refused line 3: event: not this one");
    expect(err).toContain('refused line 4: when "soon" is not a date');
    expect(err).toContain("refused line 5: n is not a number");
    expect(gateway.arrivals.map(({ event }) => [event.distinctId, event.value])).toEqual([
      ["a", 1],
      ["e", undefined],
    ]);
  });

  it("shows the first twenty refused rows and counts the rest", async () => {
    await using gateway = await startGateway(() => "take");
    const path = await file("bad.ndjson", `${"nope\n".repeat(30)}{"a":1}\n`);
    const { code, out, err } = await run([path, "--event", "e", "--url", gateway.url]);
    expect(code).toBe(3);
    expect(out).toContain("imported 1, refused 30, 31 lines");
    expect(err.match(/^refused line/gm)).toHaveLength(20);
  });

  it("comes from standard input without a checkpoint", async () => {
    await using gateway = await startGateway(() => "take");
    const { child, exit } = start(["-", "--format", "ndjson", "--event", "e", "--url", gateway.url]);
    child.stdin?.end('{"a":1}\n{"a":2}\n');
    expect(await exit).toMatchObject({ code: 0, out: expect.stringContaining("imported 2, refused 0") });
    expect(gateway.ids().size).toBe(2);
  });
});

describe("a gateway in trouble", () => {
  it("gets every event of a request that was cut, refused for a while, or answered into nowhere", async () => {
    const script: Answer[] = ["down", "reset before", "drop the answer", "busy", "take", "drop the answer"];
    await using gateway = await startGateway((request) => script[request - 1] ?? "take");
    const { code, out } = await run([
      flights,
      ...flightOptions,
      "--url",
      gateway.url,
      "--checkpoint",
      join(directory, "trouble"),
    ]);
    expect(code).toBe(0);
    expect(out).toContain("imported 20000, refused 0");
    expect(gateway.ids().size).toBe(20000);
    expect(gateway.arrivals.length).toBe(22000);
  });

  it("is waited for as long as it says", async () => {
    const times: number[] = [];
    await using gateway = await startGateway((request) => {
      times.push(performance.now());
      return request === 1 ? "busy" : "take";
    });
    const path = await file("one.ndjson", '{"a":1}\n');
    expect((await run([path, "--event", "e", "--url", gateway.url])).code).toBe(0);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1000);
  });

  it("gets retryable rejections again, and only those", async () => {
    const tried = new Set<string>();
    await using gateway = await startGateway(() => (event) => {
      const again = event.distinctId === "b" && !tried.has(event.id);
      tried.add(event.id);
      return again ? { retryable: true } : undefined;
    });
    const path = await file("retry.csv", "who\na\nb\nc\n");
    const { code, out } = await run([path, "--event", "e", "--distinct-id", "who", "--url", gateway.url]);
    expect(code).toBe(0);
    expect(out).toContain("imported 3, refused 0");
    expect(gateway.arrivals.map(({ event }) => event.distinctId)).toEqual(["a", "c", "b"]);
  });

  it("that takes smaller requests gets smaller ones, and one event that is too large is refused alone", async () => {
    const large = "x".repeat(100_000);
    await using gateway = await startGateway((_request, events) =>
      events.some(({ propertiesKind }) => String(propertiesKind.value).length > 90_000) || events.length > 2
        ? "too large"
        : "take",
    );
    const path = await file("large.ndjson", `{"n":1}\n{"n":2}\n{"n":"${large}"}\n{"n":4}\n{"n":5}\n`);
    const { code, err } = await run([path, "--event", "e", "--url", gateway.url]);
    expect(code).toBe(3);
    expect(err).toContain("refused line 3: is larger than the gateway takes");
    expect(gateway.arrivals.map(({ event }) => event.propertiesKind.value)).toEqual(
      [1, 2, 4, 5].map((n) => JSON.stringify({ n })),
    );
  });

  it("that refuses the key ends the import with the remedy", async () => {
    await using gateway = await startGateway(() => "locked");
    const path = await file("locked.ndjson", '{"a":1}\n');
    const { code, err } = await run([path, "--event", "e", "--url", gateway.url]);
    expect(code).toBe(1);
    expect(err).toContain("--api-key or MILLRACE_API_KEY");
  });
});

describe("an import that was stopped", () => {
  it.each([
    ["SIGKILL", null],
    ["SIGINT", 130],
  ] as const)("by %s goes on and doubles nothing", async (killSignal, expectedCode) => {
    const checkpoint = join(directory, `stopped-${killSignal}`);
    let kill: (() => void) | undefined;
    const killed = new Promise<void>((resolve) => {
      kill = resolve;
    });
    await using gateway = await startGateway((request) => {
      if (request > 9) kill?.();
      // From here on the first run gets no answers, so that it is surely in the middle of several requests.
      return request > 9 && request < 14 ? "drop the answer" : "take";
    });
    const args = [flights, ...flightOptions, "--url", gateway.url, "--checkpoint", checkpoint];
    const first = start(args);
    await killed;
    first.child.kill(killSignal);
    expect((await first.exit).code).toBe(expectedCode);
    const before = gateway.ids();
    const arrivedBefore = gateway.arrivals.length;
    expect(before.size).toBeGreaterThan(5000);
    expect(before.size).toBeLessThan(20000);

    gateway.requests = 100;
    const second = await run(args);
    expect(second.code).toBe(0);
    expect(second.out).toMatch(/^imported 20000, refused 0, 20000 lines in .* of them in an earlier run\)\n$/);
    expect(gateway.ids().size).toBe(20000);
    const again = gateway.arrivals.slice(arrivedBefore).filter(({ event }) => before.has(event.id));
    expect(again.length).toBeGreaterThan(0);
    expect(again.filter(({ checkStored }) => !checkStored)).toEqual([]);
    // Looking up costs the consumer a query: what was surely never sent goes without.
    expect(gateway.arrivals.slice(arrivedBefore).some(({ checkStored }) => !checkStored)).toBe(true);
  });

  it("does not go on with another file, other settings, or a changed file", async () => {
    await using gateway = await startGateway(() => "take");
    const path = await file("grows.ndjson", '{"a":1}\n');
    const args = [path, "--event", "e", "--url", gateway.url];
    expect((await run(args)).code).toBe(0);
    const other = await run([path, "--event", "f", "--url", gateway.url]);
    expect(other).toMatchObject({ code: 1, err: expect.stringContaining("its event: e; now: f") });
    await writeFile(path, '{"a":1}\n{"a":2}\n');
    const grown = await run(args);
    expect(grown).toMatchObject({ code: 1, err: expect.stringContaining("other content") });
    expect(gateway.arrivals).toHaveLength(1);
  });

  it("before the first event leaves nothing behind", async () => {
    await using gateway = await startGateway(() => "take");
    const path = await file("typo.csv", "who,n\na,1\n");
    const typo = await run([path, "--event", "e", "--value", "m", "--url", gateway.url]);
    expect(typo).toMatchObject({
      code: 1,
      err: expect.stringContaining('there is no column "m"; the header has who, n'),
    });
    expect(await run([path, "--event", "e", "--value", "n", "--url", gateway.url])).toMatchObject({ code: 0 });
    expect(gateway.arrivals.map(({ event }) => event.value)).toEqual([1]);
  });
});

it.each([
  [["--event", "e"], "no file is named"],
  [["x.csv"], "is required"],
  [["x.parquet", "--event", "e"], "--format"],
  [["x.csv", "--event", "e", "--tz", "Mars/X", "--date-order", "ymd"], "IANA zone"],
])("wrong arguments %j end with 2 and say why", async (args, reason) => {
  expect(await run(args)).toMatchObject({ code: 2, err: expect.stringContaining(reason) });
});

it("names the file that is not there", async () => {
  const missing = await run([join(directory, "missing.csv"), "--event", "e"]);
  expect(missing).toMatchObject({ code: 1, err: expect.stringContaining("missing.csv: ENOENT") });
});

it("shows its own variables in --help", async () => {
  const { out } = await run(["--help"]);
  expect(out).toContain("MILLRACE_API_KEY");
  expect(out).toContain("FILE --event NAME");
});
