import { expect, it } from "vitest";
import { parseConfig } from "#lib/config/parse.ts";
import { statsSchema } from "./config.ts";

const parse = (env: Record<string, string>) =>
  parseConfig(statsSchema, { argv: [], env: { KAFKA_BROKERS: "b:1", ...env }, command: "millrace stats", summary: "" });

it("listens beyond loopback with a token, or when anonymous callers are allowed in so many words", () => {
  expect(parse({ STATS_TOKEN: "t" }).kind).toBe("config");
  expect(parse({ ALLOW_ANONYMOUS: "true" }).kind).toBe("config");
  expect(parse({ HOST: "127.0.0.1" }).kind).toBe("config");
});

it("refuses to listen beyond loopback without a token, and says what to set", () => {
  expect(parse({})).toMatchObject({ faults: [expect.stringContaining("set STATS_TOKEN, or HOST=127.0.0.1")] });
});

it("refuses an empty token, which everybody would know", () => {
  const argv = ["--stats-token", "", "--host", "127.0.0.1"];
  expect(
    parseConfig(statsSchema, { argv, env: { KAFKA_BROKERS: "b:1" }, command: "millrace stats", summary: "" }),
  ).toMatchObject({ faults: [expect.stringContaining("expected text that is not empty")] });
});

it("takes pulse's bare numbers: seconds of polls, minutes of aggregates", () => {
  const env = { HOST: "127.0.0.1", POLL_INTERVAL: "10", AGGREGATE_INTERVAL: "30" };
  expect(parse(env)).toMatchObject({ config: { pollInterval: 10_000, aggregateInterval: 1_800_000 } });
});

it.each([
  ["AGGREGATE_INTERVAL", "7", "expected a multiple of 5m"],
  ["AGGREGATE_INTERVAL", "0", "at least 5m"],
  ["TIME_ZONE", "Atlantis/Capital", "expected the name of a time zone"],
  ["PULSE_COMPAT", "both", "expected one of readme, code"],
  ["STATS_MAX_QUERIES", "0", "1 to 100"],
])("refuses %s=%s", (name, value, fault) => {
  expect(parse({ HOST: "127.0.0.1", [name]: value })).toMatchObject({ faults: [expect.stringContaining(fault)] });
});
