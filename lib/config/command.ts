// A command line as a table: subcommands, operands, and which arguments belong to which. Faults, "did you mean" and --help
// come out the same for every command.
import type { z } from "zod";
import type { Letters } from "./letters.ts";
import { type ConfigInput, parseConfig } from "./parse.ts";
import { type Environment, flagName } from "./sources.ts";
import { didYouMean } from "./suggest.ts";

export interface Operands {
  /** Default 0. */
  min?: number;
  max: number;
  /** What is said when there are fewer or more. */
  fault: string | ((operands: readonly string[]) => string);
}

export interface Subcommand {
  operands: Operands;
  /** Schema keys of the arguments that it has; one that only others have is refused. */
  arguments?: readonly string[];
}

export interface CommandLine<S extends z.ZodObject, Name extends string = never> {
  /** As a user types it: "millrace import". */
  command: string;
  /** One line. */
  summary: string;
  schema: S;
  /** Its forms, without the command itself. */
  forms: readonly string[];
  /** What the words in the forms mean. */
  notes?: string;
  environment?: Environment;
  letters?: Letters;
  /** Of a command without subcommands. */
  operands?: Operands;
  subcommands?: Readonly<Record<Name, Subcommand>>;
}

/** What is to be printed and to end with: to stdout for 0, to stderr for 2. */
export interface TextOutcome {
  kind: "text";
  text: string;
  exitCode: 0 | 2;
}

export type CommandOutcome<C, Name extends string = never> =
  | { kind: "run"; name: Name; config: C; operands: readonly string[] }
  | TextOutcome;

/** Parses a command that has settings alone. */
export function settings<S extends z.ZodObject>(schema: S, command: string, summary: string) {
  return (argv: readonly string[], env: ConfigInput["env"]) => parseConfig(schema, { argv, env, command, summary });
}

type Surroundings = Pick<ConfigInput, "argv" | "env" | "readFile">;

/** `name` of a command without subcommands is empty. */
export function parseCommand<S extends z.ZodObject, Name extends string>(
  line: CommandLine<S, Name>,
  given: Surroundings,
): CommandOutcome<z.output<S>, Name> {
  const names = Object.keys(line.subcommands ?? {}) as Name[];
  if (names.length === 0) return parseOne(line, "" as Name, given);
  const [first = "", ...rest] = given.argv;
  if (first === "help" || given.argv.some(isHelp)) {
    const form = given.argv.find((each) => each.startsWith("--help="));
    const all = given.argv.includes("all");
    return parseOne(line, "" as Name, { ...given, argv: all ? ["--help", "all"] : [form ?? "--help"] });
  }
  const name = names.find((each) => each === first);
  if (name !== undefined) return parseOne(line, name, { ...given, argv: rest });
  if (first !== "" && !first.startsWith("-")) {
    return usageFault(line, `unknown command ${first.slice(0, 40)}.${didYouMean(first, names)}`);
  }
  // A mistyped setting is named before the command is asked for.
  const outcome = parseConfig(line.schema, inputOf(line, { argv: given.argv, env: {} }));
  if (outcome.kind === "faults") return { kind: "text", text: outcome.text, exitCode: 2 };
  return usageFault(line, `${names.join(", ").replace(/, (?=[^,]*$)/, " or ")}?`);
}

function parseOne<S extends z.ZodObject, Name extends string>(
  line: CommandLine<S, Name>,
  name: Name,
  given: Surroundings,
): CommandOutcome<z.output<S>, Name> {
  const own: Subcommand | undefined = line.subcommands?.[name];
  const spec = own?.operands ?? line.operands;
  const command = name === "" ? line.command : `${line.command} ${name}`;
  const input = { ...inputOf(line, given), takesOperands: spec !== undefined };
  const outcome = parseConfig(line.schema, given.argv.some(isHelp) ? input : { ...input, command });
  if (outcome.kind !== "config") return { kind: "text", text: outcome.text, exitCode: outcome.exitCode };
  const { config, operands, flags } = outcome;
  const foreign = own && flags.find((key) => ownersOf(line, key).length > 0 && !ownersOf(line, key).includes(name));
  if (foreign !== undefined) {
    return usageFault(line, `${flagName(foreign)} is not for ${name}, only for ${ownersOf(line, foreign).join(", ")}`);
  }
  if (spec && (operands.length < (spec.min ?? 0) || operands.length > spec.max)) {
    return usageFault(line, typeof spec.fault === "string" ? spec.fault : spec.fault(operands));
  }
  return { kind: "run", name, config, operands };
}

function isHelp(argument: string): boolean {
  return argument === "--help" || argument === "-h" || argument.startsWith("--help=");
}

function inputOf<S extends z.ZodObject, Name extends string>(line: CommandLine<S, Name>, given: Surroundings) {
  const { command, summary, environment, letters, notes } = line;
  const usage = `${forms(line)}${notes === undefined ? "" : `\n\n${notes}`}`;
  const own = Object.entries<Subcommand>(line.subcommands ?? {});
  const subcommands = Object.fromEntries(own.map(([name, { arguments: keys = [] }]) => [name, keys]));
  return { ...given, command, summary, environment, letters, usage, subcommands } satisfies ConfigInput;
}

/** Subcommands that have the argument; none: it is a setting of the whole command. */
function ownersOf(line: CommandLine<z.ZodObject, string>, key: string): string[] {
  const all = Object.entries(line.subcommands ?? {});
  return all.filter(([, { arguments: own = [] }]) => own.includes(key)).map(([name]) => name);
}

function forms({ command, forms: own }: CommandLine<z.ZodObject, string>): string {
  return own.map((form) => `${command} ${form}`).join("\n       ");
}

/** What is wrong with the arguments, how they are written, and where to read on. */
export function usageFault(line: CommandLine<z.ZodObject, string>, fault: string): TextOutcome {
  const { command } = line;
  const text = `${command}: ${fault}\nUsage: ${forms(line)}\n"${command} --help" lists all settings.\n`;
  return { kind: "text", text, exitCode: 2 };
}
