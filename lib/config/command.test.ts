import { describe, expect, it } from "vitest";
import { z } from "zod";
import { onCommandLine, several } from "./arguments.ts";
import { type CommandLine, parseCommand } from "./command.ts";
import { argument, text } from "./settings.ts";

const schema = z.object({
  json: argument().describe("ls: print JSON."),
  set: onCommandLine(several("field=value")).describe("change: a field. Repeatable."),
  url: text("http://127.0.0.1").describe("Where."),
});
const line = {
  command: "millrace things",
  summary: "lists and changes things.",
  schema,
  forms: ["ls [settings]", "change THING... [settings]"],
  notes: "A THING is what ls prints.",
  environment: { prefix: "MY_" },
  letters: { h: "help", u: "url" },
  subcommands: {
    ls: { operands: { max: 0, fault: "ls takes no THING" }, arguments: ["json"] },
    change: { operands: { min: 1, max: 2, fault: "change takes one THING or two" }, arguments: ["set"] },
  },
} satisfies CommandLine<typeof schema, string>;

const parse = (given: string, env: Record<string, string> = {}) =>
  parseCommand(line, { argv: given.split(" ").filter(Boolean), env });

describe("a command line as a table", () => {
  it.each([
    ["change a", { operands: ["a"], config: { set: [], url: "http://127.0.0.1" } }],
    ["change --set x=1 a --set=y=2 b --url u", { operands: ["a", "b"], config: { set: ["x=1", "y=2"], url: "u" } }],
    ["change -uu --set - -", { operands: ["-"], config: { set: ["-"], url: "u" } }],
    ["change a -- --set", { operands: ["a", "--set"], config: { set: [] } }],
    ["change --set=--x a", { operands: ["a"], config: { set: ["--x"] } }],
  ])("%j: operands stand anywhere, and values are no operands", (given, expected) => {
    expect(parse(given)).toMatchObject({ kind: "run", name: "change", ...expected });
  });

  it("reads variables under its prefix, and none for what one call is to do", () => {
    const env = { MY_URL: "mine", URL: "other", MY_JSON: "true", MY_SET: "x=1" };
    expect(parse("ls", env)).toMatchObject({ config: { url: "mine", json: false, set: [] } });
  });

  it.each([
    ["", "ls or change?"],
    ["lss", "unknown command lss. Did you mean ls?"],
    ["--jsn", "--jsn: unknown setting. Did you mean --json?"],
    ["ls a", "ls takes no THING"],
    ["ls --set x=1", "--set is not for ls, only for change"],
    ["change", "change takes one THING or two"],
    ["change a b c", "change takes one THING or two"],
    ["change -x", "-x: unexpected argument"],
    ["change a --set", "--set: needs a value"],
  ])("%j is refused with exit code 2 and what is wrong", (given, fault) => {
    expect(parse(given)).toMatchObject({ kind: "text", exitCode: 2, text: expect.stringContaining(fault) });
  });

  it.each(["--help", "help", "-h", "change --help", "ls a b -h", "--help all", "ls --help=all"])(
    "%j shows every form, note and setting",
    (given) => {
      const shown = expect.stringMatching(
        /^millrace things: .*\n\nUsage: millrace things ls[^\n]*\n {7}millrace things change[^\n]*\n\nA THING[\s\S]*--set <field=value>\n[\s\S]*MY_URL, -u|MY_URL/,
      );
      expect(parse(given)).toMatchObject({ kind: "text", exitCode: 0, text: shown });
    },
  );
});
