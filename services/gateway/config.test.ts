import { describe, expect, it } from "vitest";
import { parseConfig } from "#lib/config/parse.ts";
import { gatewaySchema } from "./config.ts";

function parse(env: Record<string, string>) {
  return parseConfig(gatewaySchema, { argv: [], env, command: "millrace gateway", summary: "" });
}

const BROKERS = { KAFKA_BROKERS: "localhost:9092" };

describe("gateway settings", () => {
  it("refuse to listen beyond loopback without a key, and say what to set", () => {
    const outcome = parse(BROKERS);
    expect(outcome.kind).toBe("faults");
    expect(outcome.kind === "faults" && outcome.text).toMatch(
      /HOST.*no key is set: set PUBLIC_API_KEYS or SECRET_API_KEYS, or HOST=127\.0\.0\.1, or ALLOW_ANONYMOUS=true/,
    );
  });

  it.each([
    ["a public key", { PUBLIC_API_KEYS: "a" }],
    ["a secret key", { SECRET_API_KEYS: "a" }],
    ["leave for anonymous callers", { ALLOW_ANONYMOUS: "true" }],
    ["127.0.0.1", { HOST: "127.0.0.1" }],
    ["127.1.2.3", { HOST: "127.1.2.3" }],
    ["::1", { HOST: "::1" }],
    ["localhost", { HOST: "localhost" }],
  ])("are good with %s", (_case, env) => {
    expect(parse({ ...BROKERS, ...env }).kind).toBe("config");
  });

  it.each(["0.0.0.0", "::", "127.0.0.1.example.com", "10.0.0.1", "localhost.example.com"])(
    "take %s for an address beyond loopback",
    (HOST) => {
      expect(parse({ ...BROKERS, HOST }).kind).toBe("faults");
    },
  );

  it("name what is wrong with each trusted proxy, and take ranges and loopback", () => {
    const outcome = parse({ ...BROKERS, HOST: "127.0.0.1", TRUSTED_PROXIES: "loopback,proxy.example,10.0.0.0/33" });
    const faults = outcome.kind === "faults" ? outcome.faults.join("\n") : "";
    for (const part of ["TRUSTED_PROXIES", '"proxy.example" is not an address', '"10.0.0.0/33"'])
      expect(faults).toContain(part);
    const good = parse({ ...BROKERS, HOST: "127.0.0.1", TRUSTED_PROXIES: "loopback, 10.0.0.0/8" });
    expect(good.kind === "config" && good.config.trustedProxies).toEqual(["loopback", "10.0.0.0/8"]);
  });

  it("store whole addresses and limit no rate unless told to", () => {
    const outcome = parse({ ...BROKERS, HOST: "127.0.0.1" });
    expect(outcome.kind === "config" && outcome.config).toMatchObject({
      ipMode: "full",
      ...{ rateLimitEvents: 0, rateLimitBurst: 0, trustedProxies: [], allowedOrigins: [] },
    });
    expect(parse({ ...BROKERS, HOST: "127.0.0.1", IP_MODE: "hash" }).kind).toBe("faults");
  });

  it("are no keys when the list has only commas and blanks", () => {
    expect(parse({ ...BROKERS, PUBLIC_API_KEYS: " , " }).kind).toBe("faults");
  });

  it("report all faults together, and no key among them", () => {
    const outcome = parse({ PORT: "http", MAX_BATCH_BYTES: "1", PUBLIC_API_KEYS: "", LOG_LEVEL: "loud" });
    const faults = outcome.kind === "faults" ? outcome.faults.join("\n") : "";
    for (const name of ["PORT", "MAX_BATCH_BYTES", "LOG_LEVEL", "HOST", "KAFKA_BROKERS"])
      expect(faults).toContain(name);
    expect(JSON.stringify(parse({ PORT: "http", SECRET_API_KEYS: "hidden" }))).not.toContain("hidden");
  });
});
