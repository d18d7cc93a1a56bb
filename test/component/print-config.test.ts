// --print-config with the schemas of the services: what it prints is a configuration file that the same command takes.
import { expect, it } from "vitest";
import type { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import { parseDeadLetters } from "../../commands/dead-letters/config.ts";
import { doctorSchema } from "../../commands/doctor/config.ts";
import { main as doctor } from "../../commands/doctor/main.ts";
import { parseImportConfig } from "../../commands/import/config.ts";
import { verifySchema } from "../../commands/verify/config.ts";
import { consumerSchema } from "../../services/consumer/config.ts";
import { gatewaySchema } from "../../services/gateway/config.ts";
import { relaySchema } from "../../services/relay/config.ts";
import { standaloneSchema } from "../../services/standalone/config.ts";
import { statsSchema } from "../../services/stats/config.ts";

const SECRETS = { CLICKHOUSE_PASSWORD: "hunter2", SECRET_API_KEYS: "key-one", RELAY_TOKEN: "hunter3" };
const ENV = {
  ...SECRETS,
  ...{ KAFKA_BROKERS: "a:9092,b:9092", ALLOW_ANONYMOUS: "true", PORT: "9000", HOST: "::1", DATA_DIR: "/var/lib/m #1" },
  ...{ POINTS_RETENTION: "off", RETENTION: "2", POLL_INTERVAL: "90", BATCH_BYTES: "4MiB", TIME_ZONE: "Europe/Berlin" },
};
const schemas: [string, z.ZodObject][] = [
  ["start", standaloneSchema],
  ["gateway", gatewaySchema],
  ["consumer", consumerSchema],
  ["relay", relaySchema],
  ["stats", statsSchema],
  ["verify", verifySchema],
  ["doctor", doctorSchema],
];

it.each(schemas)("of millrace %s gives the same settings again as a file, beside the secrets", (name, schema) => {
  const parse = (argv: string[], env: Record<string, string>, file = "") =>
    parseConfig(schema, { argv, env, command: `millrace ${name}`, summary: "", readFile: () => file });
  const printed = parse(["--print-config"], ENV);
  const text = printed.kind === "printed" ? printed.text : "";
  expect(text).toContain(`# millrace ${name}: settings in effect`);
  expect(text).not.toMatch(/hunter|key-one/);
  const again = parse(["--config-file", "printed.yaml"], SECRETS, text);
  expect(again.kind).toBe("config");
  expect(again).toEqual(parse([], ENV));
});

it("of a command goes to stdout, with exit code 0, and does nothing else", async () => {
  const printed = { out: "", err: "" };
  const terminal = {
    out(text: string) {
      printed.out += text;
    },
    err(text: string) {
      printed.err += text;
    },
  };
  expect(await doctor(["--print-config"], ENV, terminal)).toBe(0);
  expect(printed.err).toBe("");
  expect(printed.out).toContain("kafka-brokers: [ a:9092, b:9092 ] # environment KAFKA_BROKERS\n");
  expect(printed.out).not.toContain("gateway:");
});

it("of a command that takes names as well does not take the next one for its value", () => {
  const letters = parseDeadLetters(["replay", "--print-config", "e:millrace.events:0:1"], {});
  expect(letters).toMatchObject({
    kind: "text",
    exitCode: 0,
    text: expect.stringContaining("# millrace dead-letters"),
  });
  const rows = parseImportConfig(["--event", "sold", "--print-config", "rows.csv"], {});
  expect(rows).toMatchObject({ kind: "text", exitCode: 0, text: expect.stringContaining("# millrace import") });
});
