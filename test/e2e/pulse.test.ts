// `millrace pulse` as somebody runs it who ran `pulse -s`: its flags, its ports, a relay as Go programs have it.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createRelayClient, type RelayClient } from "#lib/relay-protocol/client.ts";
import { type Spawned, spawnMillrace } from "../kit/processes.ts";
import { runMillrace, temporaryDirectory } from "../kit/standalone.ts";

const WAIT = { timeout: 20_000, interval: 50 };
const FREE = ["-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--clickhouse-http-port", "0"];

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let pulse: Spawned;
let url: string;
let relay: RelayClient;

/** What was printed behind a name once all is ready. */
async function printed(child: Spawned, name: string): Promise<string> {
  const find = () => child.lines.map((line) => new RegExp(`^ {2}${name} +(\\S+)`).exec(line)?.[1]).find(Boolean);
  await vi.waitFor(() => expect(find(), child.lines.join("\n")).toBeDefined(), WAIT);
  return find() ?? "";
}

function start(name: string, ...flags: string[]): Spawned {
  return spawnMillrace(["pulse", "-s", ...FREE, "--data-dir", join(directory.path, name), ...flags]);
}

const get = (path: string, token = "secret") => fetch(url + path, { headers: { "x-auth-token": token } });

beforeAll(async () => {
  directory = await temporaryDirectory();
  pulse = start("plain", "-p", "1", "-i", "http://127.0.0.1:8086");
  url = await printed(pulse, "history");
  const [host = "", port] = (await printed(pulse, "relays")).split(":");
  relay = createRelayClient({ host, port: Number(port), id: "web-1" });
  relay.add("ram", () => 25, ["dc:eu"]);
});
afterAll(async () => {
  await relay?.close();
  await pulse?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
});

describe("millrace pulse", () => {
  it("polls relays and answers their values, to those who have the token", async () => {
    expect(await (await get("/ping")).text()).toBe("pong");
    await vi.waitFor(async () => expect((await get("/latest/ram?host=web-1")).status).toBe(200), WAIT);
    expect(await (await get("/latest/ram?dc=eu")).json()).toMatchObject({ value: 25 });
    expect(await (await get("/hourly/ram")).json()).toMatchObject([{ value: 25 }]);
    for (const path of ["/ping", "/latest/ram", "/relays", "/relays/web-1/flush", "/watch"]) {
      expect((await get(path, "wrong")).status, path).toBe(401);
    }
    expect(await (await get("/relays")).json()).toMatchObject({ relays: [{ id: "web-1" }] });
  });

  it("has no alert routes without a Kapacitor, as pulse, and no port for events", async () => {
    const answer = await get("/alerts");
    expect([answer.status, await answer.text()]).toEqual([404, "404 page not found\n"]);
    expect((await fetch(`${url}/events`, { method: "POST", headers: { "x-auth-token": "secret" } })).status).toBe(404);
  });

  it("says that it is ready, and what means nothing any more", async () => {
    expect(await (await fetch(`${url}/readyz`)).json()).toMatchObject({
      status: "ready",
      checks: { clickhouse: "ok" },
    });
    expect(pulse.lines.join("\n")).toContain("influx-address is not used");
  });

  it("is served to millrace relays with its token", async () => {
    const args = ["relays", "ls", "--relay-http-url", url];
    expect(await runMillrace([...args, "--relay-token", "secret"])).toMatchObject({
      ...{ code: 0, stderr: "" },
      stdout: expect.stringMatching(/^id .*\nweb-1 .* ram\n$/),
    });
    expect(await runMillrace(args)).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("--token") });
  });

  it("names its own flags when a port is taken, on stderr, and ends with 1", async () => {
    const taken = new URL(url).host;
    const flags = ["-s", ...FREE, "-H", taken, "--data-dir", join(directory.path, "other"), "-l", "FATAL"];
    expect(await runMillrace(["pulse", ...flags])).toMatchObject({
      code: 1,
      stdout: expect.not.stringContaining("millrace pulse:"),
      stderr: expect.stringMatching(/^millrace pulse: Cannot listen on .*another process.*--http-listen-address/),
    });
  });

  it("serves HTTPS and alerts, from a file", async () => {
    const [cert, key] = [join(directory.path, "cert.pem"), join(directory.path, "key.pem")];
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    const subject = ["-subj", "/CN=pulse", "-addext", "subjectAltName=IP:127.0.0.1"];
    execFileSync("openssl", ["req", "-x509", ...curve, ...subject, "-out", cert, "-keyout", key], { stdio: "ignore" });
    const flags = [
      "--insecure=false",
      "--tls-cert",
      cert,
      "--tls-key",
      key,
      "-k",
      "http://127.0.0.1:9092",
      "-t",
      "mine",
      "--relay-token",
      "theirs",
    ];
    await using secure = start("secure", ...flags);
    const address = await printed(secure, "history");
    expect(address).toMatch(/^https:/);
    const body = JSON.stringify({ metric: "ram", threshold: 80, post: "https://example.com/" });
    const answer = await new Promise<string>((resolve, reject) => {
      const headers = { "x-auth-token": "mine" };
      const sent = request(`${address}/alerts`, { method: "POST", ca: readFileSync(cert), headers }, (response) =>
        resolve(text(response)),
      );
      sent.on("error", reject).end(body);
    });
    expect(JSON.parse(answer)).toMatchObject({ metric: "ram", threshold: 80 });
    // The port's token is the only one it asks for: that of the relays beside it would not fit into the same header.
    const args = ["relays", "ls", "--relay-http-url", address, "--relay-token", "mine"];
    expect(await runMillrace(args)).toMatchObject({ code: 1, stderr: expect.stringContaining("certificate") });
    expect(await runMillrace([...args, "--tls-ca", cert])).toMatchObject({
      code: 0,
      stdout: "no agent is connected here\n",
    });
  });

  it("ends in good order when it is told to", async () => {
    expect(await pulse.stop("SIGTERM")).toBe(0);
  });
});
