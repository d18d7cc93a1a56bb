import { describe, expect, it } from "vitest";
import { parseConfig } from "#lib/config/parse.ts";
import { relaySchema } from "./config.ts";

function parse(env: Record<string, string>) {
  const withBrokers = { KAFKA_BROKERS: "localhost:9092", HOST: "127.0.0.1", ...env };
  return parseConfig(relaySchema, { argv: [], env: withBrokers, command: "millrace relay", summary: "" });
}

describe("relay settings", () => {
  it("refuse to listen beyond loopback without a token, and say what to set", () => {
    const outcome = parse({ HOST: "0.0.0.0" });
    expect(outcome.kind === "faults" && outcome.text).toMatch(
      /HOST.*need no token: set RELAY_TOKEN, or HOST=127\.0\.0\.1, or ALLOW_ANONYMOUS=true/,
    );
  });

  it.each([
    ["a token", { HOST: "0.0.0.0", RELAY_TOKEN: "s3cret" }],
    ["leave for anonymous relays", { HOST: "::", ALLOW_ANONYMOUS: "true" }],
    ["localhost", { HOST: "localhost" }],
    ["TLS files", { RELAY_TLS_CERT: "cert.pem", RELAY_TLS_KEY: "key.pem" }],
    ["a poll interval in bare seconds", { POLL_INTERVAL: "10" }],
  ])("are good with %s", (_case, env) => {
    expect(parse(env).kind).toBe("config");
  });

  it.each([
    ["RELAY_TOKEN", { RELAY_TOKEN: "two words" }, /one word without white space/],
    ["RELAY_TLS_CERT", { RELAY_TLS_CERT: "cert.pem" }, /needs both/],
    ["RELAY_TLS_CERT", { RELAY_TLS_KEY: "key.pem" }, /needs both/],
    ["BEAT_INTERVAL", { BEAT_INTERVAL: "1" }, /at least 2s/],
    ["POLL_INTERVAL", { POLL_INTERVAL: "10ms" }, /expected 0, or at least 100ms/],
    ["PULSE_COMPAT", { PULSE_COMPAT: "both" }, /readme, code/],
  ])("name %s when it is no good", (name, env, message) => {
    const outcome = parse(env);
    const faults = outcome.kind === "faults" ? outcome.faults : [];
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(name);
    expect(faults[0]).toMatch(message);
    expect(faults[0]).not.toContain("two words");
  });
});
