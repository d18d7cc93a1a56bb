import { describe, expect, it } from "vitest";
import { type PulseConfig, parsePulse } from "./config.ts";

function parse(argv: string[], file?: string): PulseConfig | string {
  const outcome = parsePulse(argv, () => file ?? "");
  return outcome.kind === "config" ? outcome.config : outcome.text;
}

function config(argv: string[], file?: string): PulseConfig {
  const parsed = parse(argv, file);
  if (typeof parsed === "string") throw new Error(parsed);
  return parsed;
}

describe("pulse's settings", () => {
  it("have pulse's defaults", () => {
    expect(config(["-s"])).toMatchObject({
      ...{ http: { host: "127.0.0.1", port: 8080 }, relays: { host: "127.0.0.1", port: 3000 } },
      ...{ token: "secret", hasAlertRoutes: false, warnings: [] },
      standalone: {
        ...{ pollInterval: 60_000, beatInterval: 30_000, aggregateInterval: 900_000, retention: 604_800_000 },
        ...{ corsAllow: "*", logLevel: "info", statsToken: "secret", relayToken: undefined, host: "127.0.0.1" },
      },
    });
  });

  it.each([
    ["-s -H 127.0.0.1:81 -p 5 -r 12 -C https://a.example -l INFO -t mine"],
    ["-sH127.0.0.1:81 -p=5 -r12 -C=https://a.example -lINFO -tmine"],
    [
      "--server=true --http-listen-address=127.0.0.1:81 --poll-interval 5 --retention 12 --cors-allow https://a.example --token mine",
    ],
    ["-H 127.0.0.1:81 -p5 -r 12 -C https://a.example -t mine -s=true"],
  ])("are written as pulse's are: %s", (line) => {
    expect(config(line.split(" "))).toMatchObject({
      http: { host: "127.0.0.1", port: 81 },
      token: "mine",
      standalone: {
        pollInterval: 5_000,
        retention: 12 * 604_800_000,
        corsAllow: "https://a.example",
        logLevel: "info",
      },
    });
  });

  it.each([
    ['{"server": true, "poll-interval": 5, "token": "mine", "kapacitor-address": ""}', "p.json"],
    ["server: true\npoll-interval: 5\ntoken: mine\nkapacitor-address: ''\n", "p.yaml"],
  ])("come from a file, under flags: %j", (text, name) => {
    const file = config(["-c", name, "-t", "flag"], text);
    expect(file).toMatchObject({ token: "flag", hasAlertRoutes: false, standalone: { pollInterval: 5_000 } });
  });

  it("come from no environment", () => {
    process.env.TOKEN = "from the shell";
    try {
      expect(config(["-s"]).token).toBe("secret");
    } finally {
      delete process.env.TOKEN;
    }
  });

  it("say of a TOML file what to do with it", () => {
    for (const argv of [["-s", "-c", "pulse.toml"], ["--config-file=pulse.TOML"]]) {
      expect(parsePulse(argv)).toMatchObject({ exitCode: 2, text: expect.stringMatching(/TOML is not read: .*YAML/) });
    }
  });

  it("keep the alert routes away without a Kapacitor, and warn of addresses that are not called", () => {
    const { hasAlertRoutes, warnings } = config(
      "-s -i http://influx:8086 -k http://kapacitor:9092 -m mist:1445 -M token".split(" "),
    );
    expect(hasAlertRoutes).toBe(true);
    expect(warnings.map((warning) => warning.split(" ")[0])).toEqual([
      "influx-address",
      "kapacitor-address",
      "mist-address",
    ]);
    expect(config(["-s", "-k", ""]).hasAlertRoutes).toBe(false);
  });

  it.each([
    ["-b 0", { beatInterval: 30_000 }, /^beat-interval is below 1: 30/],
    ["-b -5", { beatInterval: 30_000 }, /^beat-interval is below 1: 30/],
    ["-b 1", { beatInterval: 2_000 }, /^beat-interval is below 2.*: 2/],
    ["-r 0", { retention: 604_800_000 }, /^retention is below 1: 1 week/],
    ["-a 0", { aggregateInterval: 900_000 }, /^aggregate-interval is below 1: 15/],
    ["-a 1", { aggregateInterval: 300_000 }, /^aggregate-interval is not a multiple of 5: 5/],
    ["-a 16", { aggregateInterval: 1_200_000 }, /^aggregate-interval is not a multiple of 5: 20/],
  ])("mend %s and say so", (line, standalone, warning) => {
    expect(config(["-s", ...line.split(" ")])).toMatchObject({
      standalone,
      warnings: [expect.stringMatching(warning)],
    });
  });

  it.each([
    ["-p -1", /poll-interval.*0 .*or more/],
    ["-p 5m", /poll-interval.*whole number of seconds/],
    ["-H localhost", /host:port/],
    ["-H 127.0.0.1:99999", /host:port/],
    ["-H 0.0.0.0:8080", /beyond loopback: set --token/],
    ["-H 0.0.0.0:8080 -t", /needs a value/],
    ["-H :8080 -t=", /beyond loopback: set --token/],
    ["-S :3000", /beyond loopback: set --relay-token/],
    ["-S 10.0.0.1:3000 --relay-token a,b\tc", /one word/],
    ["-I=false", /false needs --tls-cert and --tls-key, .*openssl/],
    ["--insecure=false --tls-cert a", /false needs/],
    ["--tls-cert a --tls-key b", /must be false/],
    ["-z", /-z: unexpected argument/],
    ["-sx", /-x: unexpected argument/],
    ["--influx http://x", /--influx: unknown setting/],
  ])("refuse %s with what is wrong", (line, message) => {
    expect(parse(["-s", ...line.split(" ")])).toMatch(message);
  });

  it("let others in when that is said", () => {
    expect(config("-s -H 0.0.0.0:8080 -t mine -S [::]:3000 --relay-token abc".split(" "))).toMatchObject({
      http: { host: "0.0.0.0", port: 8080 },
      relays: { host: "::", port: 3000 },
      // ClickHouse's interface stays where it is.
      standalone: { host: "127.0.0.1", relayToken: "abc" },
    });
    expect(config("-s -H :8080 -S :3000 --allow-anonymous".split(" ")).relays.host).toBe("::");
    expect(config(["-s", "-t", ""]).token).toBeUndefined();
  });

  it("show the help without --server, and the version when asked", () => {
    const help = parsePulse([]);
    expect(help).toMatchObject({
      exitCode: 0,
      text: expect.stringMatching(/--server +-s .*[\s\S]*--config-file <text> +-c/),
    });
    expect(help).toEqual(parsePulse(["-h"]));
    expect(parse(["-p", "5"])).toBe(parse(["--help"]));
    expect(parse([])).not.toMatch(/environment|HTTP_LISTEN|CONFIG_FILE/);
    expect(parse(["-sv"])).toMatch(/^pulse \d+\.\d+\.\d+ \(millrace\)\n$/);
  });
});
