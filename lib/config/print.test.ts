import { expect, it } from "vitest";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { parseConfig } from "./parse.ts";
import { argument, bytes, count, csv, duration, flag, httpUrl, oneOf, port, secret, text } from "./settings.ts";

const schema = z.object({
  host: text("0.0.0.0"),
  region: text(),
  note: text(""),
  port: port(8080),
  batchSize: count(100),
  batchBytes: bytes("8MB"),
  flushInterval: duration("1s"),
  pollInterval: duration("1m", { bareUnit: "s" }),
  eventsRetention: duration(),
  migrateOnStart: flag(true),
  logLevel: oneOf(["info", "warn"], "info"),
  origins: csv(),
  apiKeys: csv([], { secret: true }),
  clickhouseUrl: httpUrl("http://localhost:8123"),
  clickhouseUser: text("default"),
  clickhousePassword: secret(""),
  repair: argument(),
});

function parse(argv: string[], env: Record<string, string> = {}, file = "") {
  return parseConfig(schema, { argv, env, command: "millrace test", summary: "", readFile: () => file });
}

function printed(argv: string[], env: Record<string, string> = {}, file = ""): string {
  const outcome = parse([...argv, "--print-config"], env, file);
  if (outcome.kind !== "printed") throw new Error(`expected a print, got ${outcome.kind}`);
  return outcome.text;
}

function configOf(argv: string[], env: Record<string, string> = {}, file = "") {
  const outcome = parse(argv, env, file);
  if (outcome.kind !== "config") throw new Error(outcome.text);
  return outcome.config;
}

const FILE = "origins: ['https://a.example', \"b # c\"]\nnote: 'off'\npoll-interval: 90\nregion: \"0123\"\n";
const ENV = {
  PORT: "9000",
  BATCH_BYTES: "1MiB",
  EVENTS_RETENTION: "30d",
  MIGRATE_ON_START: "no",
  CLICKHOUSE_DSN: "http://app:hunter2@db:8123",
  API_KEYS: "key-one,key-two",
};
const ARGV = ["--config-file", "m.yaml", "--flush-interval=250ms", "--host", "two\nlines: [x]"];

it("prints a file that gives the same settings again, secrets apart", () => {
  const before = configOf(ARGV, ENV, FILE);
  const after = configOf(["--config-file", "printed.yaml"], {}, printed(ARGV, ENV, FILE));
  expect(before.clickhousePassword).toBe("hunter2");
  expect(after).toEqual({ ...before, clickhousePassword: "", apiKeys: [] });
});

it("prints defaults that give the same settings again", () => {
  expect(configOf(["--config-file", "printed.yaml"], {}, printed([]))).toEqual(configOf([]));
});

it("says of each setting where its value is from", () => {
  const lines = printed(ARGV, ENV, FILE).split("\n");
  expect(lines).toContain("port: 9000 # environment PORT");
  expect(lines).toContain("flush-interval: 250ms # flag --flush-interval");
  expect(lines).toContain("poll-interval: 90 # file m.yaml");
  expect(lines).toContain("log-level: info # default");
  expect(lines).toContain("clickhouse-user: app # environment CLICKHOUSE_DSN");
  expect(lines).toContain("# clickhouse-password: <redacted> # environment CLICKHOUSE_DSN");
  expect(lines).toContain("# api-keys: <redacted> # environment API_KEYS");
});

it("shows no secret, also not one in an address or of a setting that is not given", () => {
  const text = printed(["--region", "https://me:hunter3@host/?token=hunter4"], ENV);
  expect(text).not.toMatch(/hunter|key-one/);
  expect(printed([])).toContain("# clickhouse-password: unset");
});

it("leaves out what only an argument can say, and what is unset stays unset", () => {
  const settings = parseYaml(printed(["--repair"])) as Record<string, unknown>;
  expect(Object.keys(settings)).not.toContain("repair");
  expect(Object.keys(settings)).not.toContain("region");
  expect(settings.port).toBe(8080);
});

it("reports faults instead of printing settings that cannot be used", () => {
  expect(parse(["--print-config", "--port", "x"])).toMatchObject({ kind: "faults", exitCode: 2 });
  expect(parse(["--print-config=maybe"])).toMatchObject({
    kind: "faults",
    faults: ["--print-config: expected true or false"],
  });
});
