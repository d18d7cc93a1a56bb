// What `npm run check` holds: each kind of bad code is refused, its allowed neighbour is not. Imports are judged by the table
// of scripts/import-rules.ts, everything else by Biome.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { importFaults } from "../../scripts/import-rules.ts";

interface Case {
  path: string;
  code: string;
  /** Undefined: this is allowed. */
  rule?: string;
}

const IMPORTS = "imports";
const KAFKA = 'import { Kafka } from "kafkajs";\nexport const kafka = new Kafka({ brokers: [] });\n';
const CLICKHOUSE = 'import { createClient } from "@clickhouse/client";\nexport const client = createClient();\n';
const CHDB = 'import { Session } from "chdb";\nexport const session = new Session();\n';
const ENV = "export const port = process.env.PORT;\n";
const CONSOLE = 'console.log("hello");\n';
const long = (lines: number) => `export function long(): void {\n${'  process.emit("exit", 0);\n'.repeat(lines)}}\n`;

function importing(specifier: string): string {
  return `import { thing } from "${specifier}";\nexport const other = thing;\n`;
}

const CASES: Record<string, Case> = {
  "a service that imports another": {
    path: "services/gateway/a.ts",
    code: importing("../consumer/app.ts"),
    rule: IMPORTS,
  },
  "a service that imports another from a folder of its own": {
    path: "services/gateway/wires/a.ts",
    code: importing("../../consumer/app.ts"),
    rule: IMPORTS,
  },
  "a service that imports its own parts": { path: "services/gateway/wires/b.ts", code: importing("../ingest.ts") },
  "a service that imports lib": { path: "services/gateway/b.ts", code: importing("#lib/eventlog/log.ts") },
  "a service's test that imports what tests share": {
    path: "services/gateway/b.test.ts",
    code: importing("../../test/kit/kafka.ts"),
  },
  "the standalone that imports services": { path: "services/standalone/a.ts", code: importing("../gateway/app.ts") },
  "the command line that imports services": { path: "services/cli.ts", code: importing("./gateway/main.ts") },
  "lib that imports a service": {
    path: "lib/events/a.ts",
    code: importing("../../services/gateway/app.ts"),
    rule: IMPORTS,
  },
  "the Kafka adapter that imports a service": {
    path: "lib/eventlog/kafka/a.ts",
    code: importing("../../services/gateway/app.ts"),
    rule: IMPORTS,
  },
  "a part of a port of the log": {
    path: "services/stats/a.ts",
    code: 'export interface Deps {\n  log: Pick<EventLog, "append">;\n}\n',
    rule: IMPORTS,
  },
  "a response that is cast": {
    path: "lib/http/a.ts",
    code: "export const raw = (response: unknown) => response as ServerResponse;\n",
    rule: IMPORTS,
  },
  "kafkajs in its adapter": { path: "lib/eventlog/kafka/log.ts", code: KAFKA },
  "kafkajs in a part of its adapter": { path: "lib/eventlog/kafka/producer.ts", code: KAFKA },
  "kafkajs elsewhere in lib": { path: "lib/eventlog/sqlite/log.ts", code: KAFKA, rule: IMPORTS },
  "kafkajs in a service": { path: "services/gateway/c.ts", code: KAFKA, rule: IMPORTS },
  "a deep import of kafkajs in a service": {
    path: "services/gateway/d.ts",
    code: importing("kafkajs/src/network/requestQueue"),
    rule: IMPORTS,
  },
  "kafkajs in the standalone": { path: "services/standalone/b.ts", code: KAFKA, rule: IMPORTS },
  "the ClickHouse client in its adapter": { path: "lib/warehouse/clickhouse.ts", code: CLICKHOUSE },
  "the ClickHouse client elsewhere in lib": { path: "lib/warehouse/migrate.ts", code: CLICKHOUSE, rule: IMPORTS },
  "the ClickHouse client in a service": { path: "services/consumer/a.ts", code: CLICKHOUSE, rule: IMPORTS },
  "chdb in the endpoint": { path: "services/clickhouse/c.ts", code: CHDB },
  "chdb in the standalone": { path: "services/standalone/c.ts", code: CHDB, rule: IMPORTS },
  "chdb in another service": { path: "services/consumer/b.ts", code: CHDB, rule: IMPORTS },
  "chdb in lib": { path: "lib/warehouse/a.ts", code: CHDB, rule: IMPORTS },
  "a command that imports a service": {
    path: "commands/verify/a.ts",
    code: importing("../../services/consumer/app.ts"),
    rule: IMPORTS,
  },
  "a command that imports another": {
    path: "commands/verify/b.ts",
    code: importing("../doctor/log.ts"),
    rule: IMPORTS,
  },
  "a room of lib that imports one above it": {
    path: "lib/events/b.ts",
    code: importing("#lib/ledger/stored.ts"),
    rule: IMPORTS,
  },
  "the pure domain that opens files": {
    path: "lib/events/c.ts",
    code: 'import { readFileSync } from "node:fs";\nexport const read = readFileSync;\n',
    rule: IMPORTS,
  },
  "chaos that imports a test": { path: "chaos/a.ts", code: importing("../test/e2e/standalone.test.ts"), rule: IMPORTS },
  "chaos that imports the kit of the tests": { path: "chaos/b.ts", code: importing("../test/kit/kafka.ts") },
  "the kit that imports chaos": { path: "test/kit/a.ts", code: importing("../../chaos/run.ts"), rule: IMPORTS },
  "the audit that asks the ledger which offsets are stored": {
    path: "commands/verify/audit.ts",
    code: importing("#lib/ledger/stored.ts"),
    rule: IMPORTS,
  },
  "a call of import() across the fence": {
    path: "services/gateway/f.ts",
    code: 'export const load = () => import("../consumer/app.ts");\n',
    rule: IMPORTS,
  },
  "the environment in lib": { path: "lib/process/a.ts", code: ENV, rule: "noProcessEnv" },
  "the environment in the command line": { path: "services/cli-env.ts", code: ENV },
  "console in a service": { path: "services/gateway/e.ts", code: CONSOLE, rule: "noConsole" },
  "console in lib": { path: "lib/process/b.ts", code: CONSOLE, rule: "noConsole" },
  "console in a script": { path: "scripts/a.ts", code: CONSOLE },
  "console in a benchmark": { path: "bench/a.ts", code: CONSOLE },
  "a promise that nobody waits for": {
    path: "lib/process/c.ts",
    code: "async function work(): Promise<void> {}\nexport function start(): void {\n  work();\n}\n",
    rule: "noFloatingPromises",
  },
  "an async callback where nobody waits for it": {
    path: "lib/process/d.ts",
    code: "export function wait(items: string[]): void {\n  items.forEach(async (item) => {\n    await item;\n  });\n}\n",
    rule: "noMisusedPromises",
  },
  "an enum": { path: "lib/process/e.ts", code: "export enum Mode {\n  On,\n}\n", rule: "noEnum" },
  "a parameter property": {
    path: "lib/process/f.ts",
    code: "export class Point {\n  constructor(readonly x: number) {}\n}\n",
    rule: "noParameterProperties",
  },
  "a default export": { path: "lib/process/g.ts", code: "export default 1;\n", rule: "noDefaultExport" },
  "a barrel": { path: "lib/process/h.ts", code: 'export * from "./a.ts";\n', rule: "noBarrelFile" },
  "text that is thrown": {
    path: "lib/process/i.ts",
    code: 'export function fail(): never {\n  throw "text";\n}\n',
    rule: "useThrowOnlyError",
  },
  "an import cycle": { path: "lib/process/j.ts", code: importing("./k.ts"), rule: "noImportCycles" },
  "a function of 119 lines": { path: "lib/process/l.ts", code: long(119) },
  "a function of 130 lines": { path: "lib/process/m.ts", code: long(130), rule: "noExcessiveLinesPerFunction" },
};
/** The other half of the cycle. */
const BESIDE = { path: "lib/process/k.ts", code: 'import { other } from "./j.ts";\nexport const thing = other;\n' };

const root = fileURLToPath(new URL("../..", import.meta.url));
let project: string;
let refusals: Map<string, string[]>;

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), "millrace-lint-"));
  cpSync(join(root, "biome.json"), join(project, "biome.json"));
  for (const { path, code } of [...Object.values(CASES), BESIDE]) {
    mkdirSync(join(project, dirname(path)), { recursive: true });
    writeFileSync(join(project, path), code);
  }
  refusals = lint(project);
  for (const { path, code } of Object.values(CASES)) {
    if (importFaults(path, code).length > 0) refusals.set(path, [...(refusals.get(path) ?? []), IMPORTS]);
  }
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

/** Names of the violated rules by path. */
function lint(directory: string): Map<string, string[]> {
  const args = ["lint", "--reporter=json", "--max-diagnostics=none", "--colors=off"];
  const { stdout, stderr } = spawnSync(join(root, "node_modules/.bin/biome"), args, {
    cwd: directory,
    encoding: "utf8",
  });
  const report = JSON.parse(stdout || `"${stderr}"`) as {
    diagnostics: { category: string; severity: string; location: { path: string } }[];
  };
  const byPath = new Map<string, string[]>();
  for (const { category, severity, location } of report.diagnostics) {
    if (severity !== "error") continue;
    byPath.set(location.path, [...(byPath.get(location.path) ?? []), category.split("/").at(-1) ?? ""]);
  }
  return byPath;
}

it.each(Object.entries(CASES).filter(([, { rule }]) => rule))("refuses %s", (_, { path, rule }) => {
  expect(refusals.get(path)).toEqual([rule]);
});

it.each(Object.entries(CASES).filter(([, { rule }]) => !rule))("accepts %s", (_, { path }) => {
  expect(refusals.get(path) ?? []).toEqual([]);
});
