// `millrace relays` against the relay service and an agent's client.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createRelayClient, type RelayClient } from "#lib/relay-protocol/client.ts";
import { main } from "../../commands/relays/main.ts";
import { startTestRelay, type TestRelay } from "../kit/relay.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

const WAIT = { timeout: 10_000, interval: 10 };
const TOKEN = "s3cret";
const ID = "web 1/a";
let relay: TestRelay;
let client: RelayClient;

async function run(line: readonly string[], env: Record<string, string> = { RELAY_TOKEN: TOKEN }) {
  let [out, err] = ["", ""];
  const terminal = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  const code = await main(line, { RELAY_HTTP_URL: relay.httpUrl, ...env }, terminal);
  return { code, out, err };
}

beforeAll(async () => {
  relay = await startTestRelay({ relayToken: TOKEN }, createScriptedLog({ partitions: 1 }));
});
afterAll(async () => {
  await client?.close();
  await relay?.[Symbol.asyncDispose]();
});

describe("millrace relays", () => {
  it("says that nobody is connected, and then who is", async () => {
    expect(await run(["ls"])).toEqual({ code: 0, out: "no agent is connected here\n", err: "" });
    client = createRelayClient({ host: "127.0.0.1", port: relay.port, id: ID, token: TOKEN });
    client.add("cpu", () => 1, ["dc:eu"]);
    client.add("ram", () => 2);
    await vi.waitFor(async () => expect((await run(["ls"])).out).toContain("ram"), WAIT);
    const { out } = await run(["ls"]);
    const [head, row] = out.trimEnd().split("\n");
    expect(head).toMatch(/^id +address +connected at +last seen +collectors$/);
    expect(row).toMatch(/^web 1\/a +127\.0\.0\.1 +\d{4}-\d\d-\d\dT\S+Z +\d{4}-\S+Z +cpu ram$/);
    const { relays } = JSON.parse((await run(["ls", "--json"])).out);
    expect(relays).toMatchObject([{ id: ID, collectors: [{ name: "cpu", tags: ["dc:eu"] }, {}] }]);
  });

  it("has a relay send now", async () => {
    expect(await run(["flush", ID])).toEqual({ code: 0, out: "notified 1 connection of web 1/a\n", err: "" });
    await relay.metricReaches("millrace_relay_points_received_total", 2);
  });

  it("has one collector send every second for a while", async () => {
    const before = await relay.metric("millrace_relay_points_received_total");
    const line = ["override", ID, "--duration", "5s", "--interval", "cpu=1s"];
    expect(await run(line)).toEqual({ code: 0, out: "notified 1 connection of web 1/a\n", err: "" });
    await relay.metricReaches("millrace_relay_points_received_total", before + 2);
  });

  it.each([
    [["flush", "nobody"], 'no agent "nobody" is connected here'],
    [["override", ID, "--duration", "5", "--interval", "cpu=1s"], "duration: needs a unit"],
    [["override", ID, "--duration", "1500ms", "--interval", "cpu=1s"], "duration: expected whole seconds"],
    [["override", ID, "--duration", "5s", "--interval", "cpu=2h"], "intervals: cpu: expected a duration"],
    [["override", ID, "--duration", "5s", "--interval", "x=1s"], "has none of these collectors"],
  ])("%j ends with 1 and the reason", async (line, reason) => {
    const { code, out, err } = await run(line);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(/^relays: [^\n]*\n$/);
    expect(err).toContain(reason);
  });

  it("says what to set when the token is wrong, the service away, or another one there", async () => {
    expect(await run(["ls"], { RELAY_TOKEN: "wrong" })).toMatchObject({
      code: 1,
      err: expect.stringContaining("RELAY_TOKEN"),
    });
    expect(await run(["ls"], {})).toMatchObject({ code: 1, err: expect.stringContaining("RELAY_TOKEN") });
    const other = createServer((_, response) => response.end("<html>")).listen(0, "127.0.0.1");
    await vi.waitUntil(() => other.listening, WAIT);
    const RELAY_HTTP_URL = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    const answered = await run(["ls"], { RELAY_HTTP_URL });
    expect(answered).toMatchObject({ code: 1, err: expect.stringMatching(/answered 200 and is not a relay/) });
    other.closeAllConnections();
    await new Promise((resolve) => other.close(resolve));
    const away = await run(["ls"], { RELAY_HTTP_URL });
    expect(away).toMatchObject({ code: 1, err: expect.stringMatching(/cannot reach .*ECONNREFUSED.*RELAY_HTTP_URL/) });
  });
});
