import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type Event, EventService, type PublishRequest, RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";
import { main } from "../../commands/import/main.ts";
import { callCommand } from "../kit/command.ts";

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

/** In this process: starting one takes longer than most imports here. */
const run = (args: string[], env: Record<string, string> = {}) => callCommand(main, args, env);

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
    const first = await start(args, { MILLRACE_API_KEY: "k1" }).exit;
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

describe("a run over what is stored already", () => {
  const csv = "when,who\n2026-11-20 10:00,k1\n2026-11-20 11:00,k2\n";

  it.each([["--force"], ["--force", "--checkpoint"], ["--checkpoint"]])(
    "with %j says that its rows are unchanged, also under other options",
    async (...flags) => {
      await using gateway = await startGateway(() => "take");
      const path = await file("wrong.csv", csv);
      const args = [path, "--event", "e", "--url", gateway.url];
      expect(await run(args)).toMatchObject({ code: 0 });
      const ids = gateway.ids();
      gateway.arrivals.length = 0;
      const again = flags.flatMap((flag) =>
        flag === "--checkpoint" ? [flag, join(directory, `other-${files}`)] : [flag],
      );
      const second = await run([...args, "--time", "when", "--distinct-id", "who", ...again]);
      expect(second).toMatchObject({ code: 0, err: expect.stringContaining("--new-events") });
      expect(second.out).toMatch(/^imported 0, 2 stored already and unchanged, refused 0, 2 lines/);
      expect(gateway.ids()).toEqual(ids);
      expect(gateway.arrivals.every(({ checkStored }) => checkStored)).toBe(true);

      const third = await run([...args, "--time", "when", "--distinct-id", "who", "--force", "--new-events"]);
      expect(third).toMatchObject({ code: 0, err: "", out: expect.stringContaining("imported 2, refused 0") });
      const made = [...gateway.ids()].filter((id) => !ids.has(id));
      expect(made).toHaveLength(2);
      // The same again makes no others.
      expect((await run([...args, "--time", "when", "--distinct-id", "who", "--force", "--new-events"])).code).toBe(0);
      expect([...gateway.ids()].filter((id) => !ids.has(id))).toEqual(made);
    },
  );

  it("ends with 3 for rows that were refused, on every run", async () => {
    await using gateway = await startGateway(() => "take");
    const path = await file("dates.csv", "when\n2026-11-20\nsoon\n");
    const args = [path, "--event", "e", "--time", "when", "--url", gateway.url];
    expect(await run(args)).toMatchObject({ code: 3 });
    expect(await run(args)).toMatchObject({
      code: 3,
      out: expect.stringMatching(/^already imported \(2 lines, 1 of them/),
    });
  });
});

describe("a file that is not what it seems", () => {
  it.each<[name: string, content: string | Buffer, fault: string | RegExp, ...args: string[]]>([
    ["pipes.csv", "a|b\n1|2\n", "separator looks like |: say --separator '|'"],
    ["tabs.csv", "a\tb\n1\t2\n", "separator looks like tab: say --separator 'tab'"],
    ["semicolons.csv", "a;b\n1,5;2\n", "separator looks like ;"],
    ["excel.csv", "sep=;\na;b\n1;2\n", "first line says that the separator is ;: say --separator ';'"],
    ["utf16.csv", Buffer.from("a,b\n1,2\n", "utf16le"), "iconv -f UTF-16LE"],
    ["utf16-mark.csv", Buffer.from("\ufeffa,b\n1,2\n", "utf16le"), "iconv -f UTF-16"],
    ["utf16.ndjson", Buffer.from('{"a":1}\n', "utf16le"), "iconv -f UTF-16LE"],
    ["sheet.csv", Buffer.from("PK\u0003\u0004xxxx"), "spreadsheet"],
    ["cut.ndjson.gz", gzipSync('{"a":1}\n'.repeat(100)).subarray(0, 30), "damaged or cut off"],
    ["header.csv", "a,b\n", "has no rows"],
    ["header-cr.csv", "a,b\r", "has no rows"],
    ["blank.ndjson", "\n\n", "has no rows"],
    ["empty.csv", "", "has no rows"],
    ["empty.json", "[]", "has no rows"],
    ["twice.csv", "a,a\n1,2\n", 'names the column "a" twice'],
    ["wide.csv", `${Array.from({ length: 20_000 }, (_, at) => `c${at}`).join(",")}\n1\n`, "20000 columns"],
    ["typo.csv", "when,who\nx,y\n", /^.*there is no column "nope"/, "--time", "nope"],
    ["typo.ndjson", '{"when":1}\n', /^.*none of the first rows has "nope"/, "--time", "nope"],
  ])("%s is refused as a whole, with the reason alone", async (name, content, fault, ...args) => {
    await using gateway = await startGateway(() => "take");
    const path = await file(name, content);
    for (const attempt of [1, 2]) {
      const { code, out, err } = await run([path, "--event", "e", "--url", gateway.url, ...args]);
      expect({ attempt, code, out }).toEqual({ attempt, code: 1, out: "" });
      expect(err.trimEnd().split("\n")).toEqual([
        typeof fault === "string" ? expect.stringContaining(fault) : expect.stringMatching(fault),
      ]);
    }
    expect(gateway.arrivals).toEqual([]);
  });

  it.each<[name: string, content: string | Buffer, expected: string[], ...args: string[]]>([
    ["pipes.csv", 'a|b\n1|"2|3"\n', ['{"a":"1","b":"2|3"}'], "--separator", "|"],
    ["tabs.tsv", "a\tb\n1\t2,5\n", ['{"a":"1","b":"2,5"}'], "--separator", "tab"],
    ["excel.csv", "sep=;\na;b\n1;2\n", ['{"a":"1","b":"2"}'], "--separator", ";"],
    ["one.csv", "a|b\n1\n", ['{"a|b":"1"}'], "--separator", ","],
    ["one-column.csv", "a\n1\n", ['{"a":"1"}']],
    ["old-mac.csv", "a,b\r1,2\r3,4\r", ['{"a":"1","b":"2"}', '{"a":"3","b":"4"}']],
    ["old-mac.ndjson", '{"a":1}\r{"a":2}', ['{"a":1}', '{"a":2}']],
    ["windows.csv", "a,b\r\n1,2\r\n", ['{"a":"1","b":"2"}']],
    ["unnamed.csv", ",a,\n0,1,\n", ['{"column_1":"0","a":"1"}']],
    ["packed.ndjson.gz", gzipSync('{"a":1}\n{"a":2}\n'), ['{"a":1}', '{"a":2}']],
    ["packed.csv", gzipSync("a\n1\n"), ['{"a":"1"}']],
  ])("%s is read", async (name, content, expected, ...args) => {
    await using gateway = await startGateway(() => "take");
    const { code, err } = await run([await file(name, content), "--event", "e", "--url", gateway.url, ...args]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(gateway.arrivals.map(({ event }) => event.propertiesKind.value)).toEqual(expected);
  });

  it("of which no row can be read says what is wrong with the rows, not that a column is not there", async () => {
    await using gateway = await startGateway(() => "take");
    const path = await file("two-in-a-line.ndjson", '{"at":1} {"at":2}\n["at"]\n');
    const { code, err } = await run([path, "--event", "e", "--time", "at", "--url", gateway.url]);
    expect(code).toBe(3);
    expect(err).toMatch(/^refused line 1: .*\nrefused line 2: is not a JSON object\n/);
    expect(err).not.toContain("none of the first rows");
  });

  it("whose ids repeat is said to become fewer events than it has rows", async () => {
    await using gateway = await startGateway(() => "take");
    const path = await file("by-user.csv", "user,n\nu1,1\nu2,2\nu1,3\n,4\n,5\nu1,6\n");
    const { code, out, err } = await run([path, "--event", "e", "--id", "user", "--url", gateway.url]);
    expect({ code, out, err }).toEqual({
      code: 0,
      out: expect.stringMatching(/^imported 6, refused 0/),
      err: "2 rows have the user of a row before them: of each id one event is stored\n",
    });
    expect(gateway.ids().size).toBe(4);
  });

  it("costs a row that is nested without end itself alone", async () => {
    await using gateway = await startGateway(() => "take");
    const rows = [5_000, 200_000].map((depth) => `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}\n`);
    const path = await file("deep.ndjson", `{"n":1}\n${rows.join("")}{"n":4}\n`);
    const { code, out, err } = await run([path, "--event", "e", "--url", gateway.url]);
    expect({ code, out }).toEqual({ code: 3, out: expect.stringContaining("imported 2, refused 2, 4 lines") });
    expect(err).toMatch(/^refused line 2: .*nested too deeply$/m);
    expect(err).not.toContain("    at ");
    expect(gateway.arrivals.map(({ event }) => event.propertiesKind.value)).toEqual(['{"n":1}', '{"n":4}']);
  });

  it("sends no escape sequence of its own to the terminal", async () => {
    await using gateway = await startGateway(() => "take");
    const hostile = "\u001b]0;PWNED\u0007\u001b[2J";
    const path = await file("hostile.csv", `when,${hostile}\n${hostile},1\n`);
    const args = [path, "--event", "e", "--url", gateway.url];
    const row = await run([...args, "--time", "when"]);
    const column = await run([...args, "--value", "nope", "--checkpoint", join(directory, "hostile")]);
    for (const { err } of [row, column]) {
      expect(err).toContain("PWNED");
      expect(err.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
    }
  });
});

it("reaches the gateway through a proxy where Node is told to use one", async () => {
  await using gateway = await startGateway(() => "take");
  const asked: string[] = [];
  const proxy = createServer((request, response) => {
    asked.push(request.url ?? "");
    const { pathname } = new URL(request.url ?? "", "http://none");
    const onward = httpRequest(`${gateway.url}${pathname}`, { method: request.method, headers: request.headers });
    onward.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const env = { NODE_USE_ENV_PROXY: "1", HTTP_PROXY: address, http_proxy: address, NO_PROXY: "", no_proxy: "" };
  try {
    const path = await file("proxied.ndjson", '{"a":1}\n');
    const { child, exit } = start([path, "--event", "e", "--url", "http://gateway.example"], env);
    await vi.waitFor(() => expect(gateway.arrivals).toHaveLength(1), { timeout: 30_000, interval: 50 });
    child.kill("SIGKILL");
    await exit;
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
  expect(asked[0]).toMatch(/^http:\/\/gateway\.example\/millrace\.events\.v1\.EventService\/Publish/);
  expect(gateway.arrivals).toHaveLength(1);
});

describe("exports of product analytics", () => {
  const mapped = ({ event }: Arrival) => [
    event.event,
    event.distinctId,
    event.time?.seconds,
    event.propertiesKind.value,
  ];

  it("bring name, time, person and id in each row, and are the same events from another file", async () => {
    await using gateway = await startGateway(() => "take");
    const rows = [
      '{"event":"Sign Up","properties":{"time":1795140000,"distinct_id":"m","$insert_id":"x1","plan":"pro"}}',
      '{"event":"Buy","properties":{"time":1795140060,"distinct_id":"m","$insert_id":"x2","price":9007199254740993}}',
    ];
    const args = ["--event-column", "event", "--time", "properties.time", "--distinct-id", "properties.distinct_id"];
    args.push("--id", "properties.$insert_id", "--properties", "properties", "--url", gateway.url);
    const first = await run([await file("mixpanel.ndjson", `${rows.join("\n")}\n`), ...args]);
    expect(first).toMatchObject({ code: 0, err: "" });
    expect(gateway.arrivals.map(mapped)).toEqual([
      ["Sign Up", "m", 1795140000n, '{"plan":"pro"}'],
      ["Buy", "m", 1795140060n, '{"price":9007199254740993}'],
    ]);
    const ids = gateway.ids();
    expect((await run([await file("again.ndjson", `${rows[1]}\n${rows[0]}\n`), ...args])).code).toBe(0);
    expect(gateway.ids()).toEqual(ids);
  });

  it("have nested columns beside flat ones, which go first", async () => {
    await using gateway = await startGateway(() => "take");
    const rows = [
      '{"event_type":"e","user_id":"u","uuid":"i1","event_properties":{"a":1,"__proto__":2},"user_properties":{"b":2},"city":"x"}',
      '{"event_type":"e","user_id":null,"uuid":"i2","event_properties.a":3}',
      '{"user_id":"u"}',
    ];
    const path = await file("amplitude.ndjson", rows.join("\n"));
    const args = ["--event-column", "event_type", "--distinct-id", "user_id", "--id", "uuid"];
    const { code, err } = await run([path, ...args, "--properties", "event_properties", "--url", gateway.url]);
    expect(code).toBe(3);
    expect(err).toContain("refused line 3: event_type is no name of an event");
    expect(err).toContain("1 rows have no user_id");
    expect(gateway.arrivals.map(({ event }) => event.propertiesKind.value)).toEqual([
      '{"user_properties":{"b":2},"city":"x","a":1,"__proto__":2}',
      '{"event_properties.a":3}',
    ]);
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
