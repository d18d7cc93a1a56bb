// Which room may import which: one table, checked over every file by `npm run check`, with what may not be said of its types.
// A room is a folder; what is not listed here may be imported by nobody but itself. Drivers have one importer each.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

/** Everything a service or a command may stand on. */
const LIB = ["lib/*", "gen"];

/**
 * Room → rooms it may import beside itself, lowest first in lib: no arrow goes back up. `services/*` is each service on
 * its own: it may import none of the others.
 */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  "lib/config": [],
  "lib/process": ["lib/config"],
  "lib/events": ["gen"],
  "lib/relay-protocol": ["lib/process"],
  "lib/http": ["lib/config", "lib/process", "gen"],
  "lib/eventlog": ["lib/config", "lib/process"],
  "lib/warehouse": ["lib/config", "lib/process", "lib/http", "lib/events", "lib/eventlog"],
  "lib/stats-client": ["lib/config"],
  "lib/points": ["lib/events", "lib/warehouse"],
  "lib/ledger": ["lib/process", "lib/events", "lib/eventlog", "lib/warehouse", "gen"],
  "lib/letters": ["lib/process", "lib/events", "lib/eventlog", "lib/warehouse", "lib/ledger", "gen"],
  "lib/identity": ["lib/events", "lib/eventlog", "lib/warehouse", "lib/points", "lib/ledger", "gen"],
  "services/cli.ts": ["lib/*", "services/*", "commands/*"],
  "services/commands.ts": ["lib/*", "services/*", "commands/*"],
  // The two that are made of the others.
  "services/standalone": [...LIB, "services/*"],
  "services/pulse": [...LIB, "services/*"],
  "services/agent": [...LIB, "sdk/node"],
  "services/*": LIB,
  "commands/import": [...LIB, "sdk/node"],
  "commands/*": LIB,
  // Runs in browsers.
  console: [],
  "sdk/node": ["gen", "lib/events", "lib/relay-protocol"],
  "sdk/browser": [],
  "sdk/react": [],
  "test/kit": [...LIB, "services/*", "commands/*", "sdk/node", "sdk/browser", "scripts"],
  chaos: [...LIB, "test/kit"],
  // Those of the packages in sdk/ as well.
  scripts: [...LIB, "test/kit", "sdk/*"],
  bench: [...LIB, "services/*", "sdk/node", "test/kit"],
  test: ["*"],
  examples: [],
  "vitest.config.ts": ["test/kit"],
};

/** Rules for single files, beside their room's: what they may not import although the room may. */
const EXCEPT: readonly { file: RegExp; not: RegExp; why: string }[] = [
  {
    // What is left of lib/ledger says which topics there are and which epoch counts.
    file: /^commands\/verify\/(?:audit|stored|rollup|arrival)\.ts$/,
    not: /^(?:lib\/ledger\/(?!stored-topics\.ts$|epochs\.ts$)|services\/consumer\/|commands\/verify\/(?:repair|accept)\b)/,
    why: "the audit asks ClickHouse in words of its own, or it would share the consumer's mistakes",
  },
];

/** Package → the only files that may import it. */
const DRIVERS: Readonly<Record<string, RegExp>> = {
  kafkajs: /^(?:lib\/eventlog\/kafka\/|chaos\/)/,
  "@clickhouse/client": /^lib\/warehouse\/clickhouse\.ts$/,
  chdb: /^services\/clickhouse\//,
  systeminformation: /^services\/agent\//,
  "csv-parse": /^commands\/import\//,
};

/** What code outside tests may not say about the ports and messages it is handed. */
const TYPES: readonly { not: RegExp; why: string }[] = [
  {
    not: /\bPick<\s*(?:EventLog|LogReader|LogAdmin|OpenLog)\b/,
    why: "take one of the ports of lib/eventlog/log.ts whole",
  },
  {
    not: /\bas (?:unknown as )?(?:\w+\.)?(?:ServerResponse|Http2ServerResponse|HttpResponse)\b/,
    why: "HttpResponse of lib/http is the type for HTTP/1.1 and HTTP/2",
  },
];

/** What the pure domain may use of Node: nothing that reads or waits. */
const PURE = new Set(["node:crypto", "node:buffer"]);

const SPECIFIER = /(?:^|[^.\w])(?:import|export)\s(?:[^"'();]*?\sfrom\s)?"([^"\n]+)"|\bimport\("([^"\n]+)"\)/g;

/** What is wrong with the imports of `code` at `path`, relative to the root; a sentence each. */
export function importFaults(path: string, code: string): string[] {
  const isTest = /\.test\.tsx?$/.test(path) || path.startsWith("test/component/");
  const room = roomOf(path);
  const faults = TYPES.filter(({ not }) => !isTest && not.test(code)).map(({ not, why }) => {
    return `${path}: ${not.exec(code)?.[0]}: ${why}`;
  });
  for (const [, plain, called] of code.matchAll(SPECIFIER)) {
    const specifier = plain ?? called ?? "";
    const target = targetOf(path, specifier);
    const reason = target === undefined ? packageFault(path, specifier, isTest) : roomFault(path, room, target, isTest);
    if (reason !== undefined) faults.push(`${path}: imports ${specifier}: ${reason}`);
  }
  return faults;
}

/** Relative to the root; undefined for a package. */
function targetOf(path: string, specifier: string): string | undefined {
  if (specifier.startsWith("#")) return specifier.slice(1);
  return specifier.startsWith(".") ? normalize(join(dirname(path), specifier)) : undefined;
}

function roomFault(path: string, room: string, target: string, isTest: boolean): string | undefined {
  const wanted = roomOf(target);
  if (wanted === room) {
    const rule = EXCEPT.find(({ file, not }) => file.test(path) && not.test(target));
    return rule?.why;
  }
  // A test beside the code may use what tests share, and compare it with its copy in a package.
  if (isTest && (wanted === "test/kit" || wanted.startsWith("sdk/") || room.startsWith("test"))) return undefined;
  const rule = EXCEPT.find(({ file, not }) => file.test(path) && not.test(target));
  if (rule) return rule.why;
  const allowed = ROOMS[room] ?? ROOMS[`${room.split("/", 1)[0]}/*`] ?? ROOMS[room.split("/", 1)[0] ?? ""] ?? [];
  const fits = (pattern: string) =>
    pattern === "*" || pattern === wanted || (pattern.endsWith("/*") && wanted.startsWith(pattern.slice(0, -1)));
  if (allowed.some(fits)) return undefined;
  // A test in lib may set up what stands above the code it tests.
  if (isTest && room.startsWith("lib/") && wanted.startsWith("lib/")) return undefined;
  return `${room} may import ${allowed.length === 0 ? "nothing but itself" : allowed.join(", ")}`;
}

function packageFault(path: string, specifier: string, isTest: boolean): string | undefined {
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  const importers = DRIVERS[name];
  if (importers && !importers.test(path) && !isTest && !path.startsWith("test/")) {
    return `${name} is imported by ${importers.source} alone`;
  }
  const isPure = path.startsWith("lib/events/") && !isTest;
  if (isPure && isBuiltin(specifier) && !PURE.has(specifier))
    return "lib/events is pure: it reads and waits for nothing";
  return undefined;
}

/** `lib/events` of lib/events/ids.ts; a file that stands in lib, services, commands, sdk or test itself is its own room. */
function roomOf(path: string): string {
  const [top = "", next = "", below = ""] = path.split("/");
  if (top === "sdk" && below === "scripts") return "scripts";
  return ["lib", "services", "commands", "sdk", "test"].includes(top) && next !== "" ? `${top}/${next}` : top;
}

if (import.meta.main) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const { stdout } = spawnSync("git", ["ls-files", "-co", "--exclude-standard"], { cwd: root, encoding: "utf8" });
  const files = stdout.split("\n").filter((path) => /\.tsx?$/.test(path) && !/^(?:gen|node_modules)\//.test(path));
  const faults = files
    .filter((path) => existsSync(join(root, path)))
    .flatMap((path) => importFaults(path, readFileSync(join(root, path), "utf8")));
  if (faults.length > 0) {
    process.stderr.write(`${faults.join("\n")}\nThe table is in scripts/import-rules.ts.\n`);
    process.exitCode = 1;
  }
}
