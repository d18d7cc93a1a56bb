// `npm run verify:e2e` against a running standalone, and against stacks in which something is wrong.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { judgeRows, type SentEvent, type StoredEvent } from "../../scripts/verify-e2e.ts";
import { ROOT } from "../kit/deploy.ts";
import { freePort } from "../kit/free-port.ts";
import { startTestGateway } from "../kit/gateway.ts";
import { type RunningStandalone, run, startStandalone, temporaryDirectory } from "../kit/standalone.ts";

const stack = new AsyncDisposableStack();
let standalone: RunningStandalone;
let relayPort: number;
let statsPort: number;

beforeAll(async () => {
  const { path } = stack.use(await temporaryDirectory());
  relayPort = await freePort();
  statsPort = await freePort();
  const ports = { RELAY_PORT: String(relayPort), STATS_PORT: String(statsPort) };
  standalone = stack.use(await startStandalone({ dataDir: path, env: { ...ports, PUBLIC_API_KEYS: "e2e-key" } }));
});

afterAll(() => stack.disposeAsync());

function verify(args: readonly string[]) {
  return run(process.execPath, [
    join(ROOT, "scripts/verify-e2e.ts"),
    "--clickhouse-url",
    standalone.clickhouseUrl,
    ...args,
  ]);
}

describe("npm run verify:e2e", () => {
  it("ends with 0 when every event is stored once, those sent twice too", async () => {
    const { code, stdout, stderr } = await verify([
      ...["--url", standalone.url, "--api-key", "e2e-key", "--events", "64"],
      ...["--relay", `127.0.0.1:${relayPort}`, "--stats-url", `http://127.0.0.1:${statsPort}`],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(
      /^events: 64 acknowledged, 32 of them twice\nevents: 64 rows, each event once .*\nrelay: 1 point, .*\nstats: answers\nok\n$/,
    );
    const rows = "SELECT count(), uniqExact(uuid) FROM millrace.events_raw WHERE event = 'millrace_verify_e2e'";
    expect(await standalone.query(rows)).toBe("64\t64");
  });

  it("ends with 1 when what was acknowledged is never stored", async () => {
    await using gateway = await startTestGateway();
    const { code, stderr } = await verify(["--url", gateway.url, "--wait", "1s"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^FAILED 320 of 320 events after \d+ s:\n {2}\S+ is not stored\n/);
  });

  it("ends with 1 and says where, when a key is wrong or something is away", async () => {
    const gone = `127.0.0.1:${await freePort()}`;
    const [noKey, noGateway, noStats, noRelay] = await Promise.all([
      verify(["--url", standalone.url]),
      verify(["--url", `http://${gone}`]),
      ...[
        ["--stats-url", `http://${gone}`],
        ["--relay", gone],
      ].map((more) => verify(["--url", standalone.url, "--api-key", "e2e-key", "--events", "64", ...more])),
    ]);
    expect(noKey).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`FAILED ${standalone.url}/events answered 401`),
    });
    expect(noGateway).toMatchObject({ code: 1, stderr: expect.stringContaining(`FAILED http://${gone}/readyz`) });
    expect(noStats).toMatchObject({ code: 1, stderr: expect.stringContaining(`FAILED http://${gone}/readyz`) });
    expect(noRelay).toMatchObject({ code: 1, stderr: expect.stringContaining(`FAILED the relay at ${gone}`) });
  });

  it("ends with 2 for what it does not know", async () => {
    expect((await verify(["--urls", "x"])).code).toBe(2);
  });
});

describe("what verify:e2e calls wrong", () => {
  const sent: SentEvent[] = [{ id: "a", distinctId: "p", value: 1 }];
  const row: StoredEvent = { id: "a", distinctId: "p", value: 1, n: 1 };

  it.each<[string, StoredEvent[], string[]]>([
    ["nothing, when it is there once", [row], []],
    ["an event that is missing", [], ["a is not stored"]],
    ["an event that is there twice", [row, row], ["a is stored 2 times"]],
    [
      "a property that changed",
      [{ ...row, n: 2 }],
      ['a was sent as p 1 and is stored as {"id":"a","distinctId":"p","value":1,"n":2}'],
    ],
    ["an event that nobody sent", [row, { ...row, id: "b" }], ["b is stored and was never sent"]],
  ])("%s", (_, rows, faults) => {
    expect(judgeRows(sent, rows)).toEqual(faults);
  });
});
