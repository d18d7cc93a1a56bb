// What the documents say about the tree is true: paths exist, links resolve, settings and limits are those of the code.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Code } from "@connectrpc/connect";
import { beforeAll, describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "#lib/events/limits.ts";
import { REFUSALS } from "../../services/gateway/refusals.ts";
import { helpOf } from "../kit/command.ts";
import { type HelpSetting, isExpectedOutput, readHelp, readSteps } from "../kit/readme.ts";
import { runMillrace } from "../kit/standalone.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const DOCUMENTS = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "SECURITY.md",
  ...filesBelow("docs").filter((path) => path.endsWith(".md")),
];

function filesBelow(directory: string): string[] {
  return readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort();
}

const sourceFiles = () =>
  [...filesBelow("services"), ...filesBelow("commands"), ...filesBelow("lib")].filter(
    (path) => !path.endsWith(".test.ts"),
  );

/** Anything in a document that reads like a file of this tree: `lib/events/record.ts`, proto/…/events.proto, test/e2e/. */
const PATH = /(?<![\w/.:@-])(?:bench|bin|chaos|docs|gen|lib|migrations|proto|scripts|services|test)\/[\w./-]*[\w/]/g;

describe.each(DOCUMENTS)("%s", (document) => {
  it("names only paths that exist", () => {
    const paths = [...read(document).matchAll(PATH)].map(([path]) => path);
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });

  it("links only to files and headings that exist", () => {
    const links = [...read(document).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)/g)];
    const broken = links.filter(([, path = "", heading]) => {
      const target = path === "" ? document : join(dirname(document), path);
      if (!existsSync(join(ROOT, target))) return true;
      return heading !== undefined && !headings(read(target)).includes(heading);
    });
    expect(broken.map(([link]) => link)).toEqual([]);
  });
});

/** Anchors as GitHub makes them. */
function headings(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

it("a decision fits on a page and says what would reverse it", () => {
  for (const path of filesBelow("docs/decisions").filter((each) => !each.endsWith("README.md"))) {
    const page = read(path);
    expect(page.split("\n").length, path).toBeLessThanOrEqual(60);
    for (const heading of ["## Context", "## Choice", "## Alternatives", "## What would reverse it"]) {
      expect(page, path).toContain(heading);
    }
  }
});

describe("settings", () => {
  /** Of every command that `millrace --help` lists, in its order. */
  const help = new Map<string, string>();
  const settings = new Map<string, HelpSetting[]>();

  beforeAll(async () => {
    const { stdout: usage } = await runMillrace(["--help"]);
    const commands = [...usage.matchAll(/^ {2}([a-z-]+) {2}/gm)].map(([, command = ""]) => command);
    for (const command of commands) {
      const text = await helpOf(command);
      help.set(command, text);
      settings.set(command, readHelp(text));
    }
  });

  it("in docs/settings.md are those of --help (vitest -u writes the file anew)", async () => {
    expect(settings.get("start")?.length).toBeGreaterThan(20);
    expect([...settings].filter(([, each]) => each.length === 0)).toEqual([]);
    const page = settingsPage([...help].map(([command, text]) => [text, settings.get(command) ?? []]));
    await expect(page).toMatchFileSnapshot("../../docs/settings.md");
  });

  it("in docs/configuration.md have the defaults and meanings of --help", () => {
    const rows = [...read("docs/configuration.md").matchAll(/^\| `([A-Z_]+)` +\| (.*?) *\| (\w+) +\| (.*?) +\|$/gm)];
    expect(rows.length).toBeGreaterThan(10);
    for (const [row, variable, defaultText, command = "", meaning] of rows) {
      const setting = settings.get(command)?.find((each) => each.variable === variable);
      expect({ defaultText, meaning }, row).toEqual({ defaultText: setting?.defaultText, meaning: setting?.meaning });
    }
  });

  it("that documents name in backquotes exist", () => {
    const known = new Set([...settings.values()].flat().map(({ variable }) => variable));
    for (const text of help.values())
      for (const [, name = ""] of text.matchAll(/^ {2}([A-Z_]+) sets /gm)) known.add(name);
    const named = DOCUMENTS.flatMap((path) => [...read(path).matchAll(/`([A-Z]{2,}(?:_[A-Z]+)+)(?:=[^`]*)?`/g)]);
    const unknown = named.map(([, name = ""]) => name).filter((name) => !known.has(name) && !NOT_SETTINGS.has(name));
    expect([...new Set(unknown)]).toEqual([]);
  });
});

/** Words in capitals that documents have in backquotes: codes of RPC, SQLite or ClickHouse, and variables of tools. */
const NOT_SETTINGS = new Set([
  "MILLRACE_TEST_SLOWNESS",
  "RESOURCE_EXHAUSTED",
  "TOO_LARGE",
  "TOO_COMPLEX",
  "TOO_MANY_PARTS",
  "INVALID_ARGUMENT",
  "UNIMPLEMENTED",
  "NOT_FOUND",
  "KEEP_DATA",
  "KAFKA_VERSION",
  "NODE_EXTRA_CA_CERTS",
  "NODE_USE_ENV_PROXY",
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "NO_PROXY",
  "NPM_TOKEN",
]);

function settingsPage(commands: readonly [help: string, settings: HelpSetting[]][]): string {
  const cell = (value: string) => value.replaceAll("|", "\\|");
  const sections = commands.map(([help, settings]) => {
    const [title = ""] = help.split("\n");
    const [name, ...summary] = title.split(": ");
    const hasVariables = settings.some(({ variable }) => variable !== "");
    const rowOf = ({ flag, short, variable, defaultText, meaning }: HelpSetting) => [
      [flag, short]
        .filter((name) => name !== "")
        .map((name) => `\`${cell(name)}\``)
        .join(" "),
      ...(hasVariables ? [variable && `\`${variable}\``] : []),
      cell(defaultText),
      cell(meaning),
    ];
    const aliases = [...help.matchAll(/^ {2}([A-Z_]+) sets (.+)$/gm)].map(([, from, to]) => `\`${from}\` sets ${to}.`);
    const header = ["flag", ...(hasVariables ? ["variable"] : []), "default", "meaning"];
    const tableOf = (some: readonly HelpSetting[]) => paddedTable([header, ...some.map(rowOf)]);
    const first = readHelp(help.split("\nLeave these")[0] ?? "");
    const others = settings.slice(first.length);
    const table =
      others.length === 0
        ? tableOf(settings)
        : [
            "You will set these:",
            "",
            ...tableOf(first),
            "",
            "Leave these as they are unless you know why:",
            "",
            ...tableOf(others),
          ];
    const other = aliases.length > 0 ? ["", `Other names: ${aliases.join(" ")}`] : [];
    return [`## ${name}`, "", summary.join(": "), "", ...table, ...other, ""].join("\n");
  });
  return `${["# Settings", "", INTRODUCTION, "", ...sections].join("\n").trimEnd()}\n`;
}

/** With columns padded to their width, as the formatter leaves them. */
function paddedTable(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`;
  const [header = "", ...body] = rows.map(line);
  return [header, line(widths.map((width) => "-".repeat(width))), ...body];
}

const INTRODUCTION = `What \`millrace <command> --help all\` says, on one page; test/component/docs.test.ts compares the two. A flag wins over the
environment, the environment over the file named by \`--config-file\`, the file over the default. In the file a setting has
its flag's name without the dashes.`;

it("messages in docs/errors.md are those of the code", () => {
  const source = ["bin/millrace.cjs", ...sourceFiles()].map(read).join("\n");
  const cells = [...read("docs/errors.md").matchAll(/^\| (`.*?) \|/gm)].map(([, cell = ""]) => cell);
  const quoted = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text));
  expect(quoted.length).toBeGreaterThan(40);
  expect(quoted.filter((text) => !source.includes(text))).toEqual([]);
});

it("the refusals in docs/errors.md are those of the gateway, and all of them", () => {
  const page = read("docs/errors.md");
  const [, section = ""] = /^## Refusals of the gateway(.*?)^## /ms.exec(page) ?? [];
  const rows = [...section.matchAll(/^\| (.*?) +\| (\d+) +\| (\w+) +\| (\S*) +\| \S.*\|$/gm)].map((row) =>
    row.slice(1, 5),
  );
  const blank = new Proxy({}, { get: () => "…" }) as never;
  const refusals = Object.values(REFUSALS).map(({ message, status, code, retryAfter = "" }) => {
    const name = (Code[code] ?? "").replace(/(?<=.)[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
    return [message(blank), String(status), name, typeof retryAfter === "function" ? "…" : String(retryAfter)];
  });
  const distinct = (lines: string[][]) => [...new Set(lines.map((line) => line.join(" | ")))].sort();
  expect(distinct(rows)).toEqual(distinct(refusals));
});

it("no sentence of a refusal stands in the code twice", () => {
  const edges = sourceFiles().filter((file) => /^(lib\/http|services\/(gateway|relay|stats))\//.test(file));
  const sentence =
    /(?:\b(?:\w*Error|refused?|invalid|mistake|fail|reject|add)\((?:"[^"]*", )?|\b(?:error|fault|message|problem|reason): (?:\(\) =>\s+)?)"([^"]{20,})"/g;
  const found = edges.flatMap((file) => [...read(file).matchAll(sentence)].map(([, text = ""]) => ({ file, text })));
  expect(found.length).toBeGreaterThan(50);
  const places = Object.groupBy(found, ({ text }) => text);
  const twice = Object.values(places).filter((list) => (list?.length ?? 0) > 1);
  expect(twice.map((list = []) => [list[0]?.text, ...list.map(({ file }) => file)])).toEqual([]);
});

it("every decision is listed", () => {
  const list = read("docs/decisions/README.md");
  const pages = filesBelow("docs/decisions").map((path) => path.replace("docs/decisions/", ""));
  expect(pages.filter((page) => page !== "README.md" && !list.includes(`](${page})`))).toEqual([]);
});

it("limits in docs/configuration.md are those of the code", async () => {
  const page = read("docs/configuration.md");
  const rows = [...page.slice(page.indexOf("## Limits")).matchAll(/^\| (.*?) +\| (.*?) +\| /gm)];
  const limits = new Map(rows.map(([, what, limit]) => [what, limit]));
  const { eventNameBytes, distinctIdBytes, sourceBytes, propertyKeys, propertyDepth } = DEFAULT_LIMITS;
  const written = (n: number) => n.toLocaleString("en-US");
  expect(sourceBytes).toBe(eventNameBytes);
  expect(limits.get("event name, source")).toBe(`${eventNameBytes} bytes each`);
  expect(limits.get("distinct id")).toBe(`${written(distinctIdBytes)} bytes`);
  expect(limits.get("keys in properties, all levels")).toBe(written(propertyKeys));
  expect(limits.get("levels of properties")).toBe(String(propertyDepth));

  const settings = readHelp(await helpOf("gateway"));
  const configured = [...limits.values()]
    .map((limit) => /^(.*) \(`([A-Z_]+)`\)$/.exec(limit ?? ""))
    .filter((it) => it !== null);
  expect(configured.length).toBe(5);
  for (const [, limit = "", variable] of configured) {
    const setting = settings.find((each) => each.variable === variable);
    expect(limit.replaceAll(/[ ,]|bytes/g, ""), variable).toBe(setting?.defaultText);
  }
});

describe("the reader of README.md", () => {
  it("takes commands with the output behind them, and refuses what it does not know", () => {
    const markdown = "```sh\na\n```\n\n```text\nb\n```\n\n```sh check\nc\n```\n";
    expect(readSteps(markdown)).toEqual([
      { kind: "run", line: 1, command: "a\n", expected: "b\n" },
      { kind: "check", line: 9, command: "c\n", expected: undefined },
    ]);
    expect(() => readSteps("```bash\na\n```\n")).toThrow('line 1: a block "bash"');
    expect(() => readSteps("```sh\na\n")).toThrow("line 1: the block is not closed");
  });

  it.each([
    ["same\n", "same", true],
    ["took … s", "took 1.2 s\n", true],
    ["took … s", "took 1.2 m\n", false],
    ["…end", "the end", true],
    ["a…a", "a", false],
    ["one", "one\ntwo", false],
    ["a.c", "abc", false],
  ])("compares %j with %j", (expected, actual, same) => {
    expect(isExpectedOutput(expected, actual)).toBe(same);
  });
});
