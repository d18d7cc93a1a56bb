// Where values come from: command line, environment, configuration file. Reads them into one shape and finds what does
// not belong; whether a value is any good is for config.ts and the schema.
import { parseDocument } from "yaml";
import { hasQuotesAround } from "./settings.ts";
import { didYouMean } from "./suggest.ts";

/** A value as somebody gave it. */
export interface Given {
  /** Schema key or alias name. */
  name: string;
  value: unknown;
  /** Where it stands, without the value: `flag --port`, `environment PORT`, `file millrace.yaml`. */
  from: string;
  /** How that person wrote it, value included: `--port=80`, `PORT=80`, `port: 80 (in millrace.yaml)`. */
  spell(value: string): string;
  /** Why it cannot be meant, whatever the setting takes. */
  fault?: string | undefined;
}

export interface Source {
  given: Given[];
  faults: string[];
}

export interface KnownName {
  /** camelCase. */
  name: string;
  isFlag: boolean;
  /** Given several times, all values are meant; otherwise the last. */
  isList: boolean;
}

/** What a command reads of the environment: variables of its settings' names, those under a prefix, or nothing. */
export type Environment = "own names" | "nothing" | { prefix: string };

export function flagName(name: string): string {
  return `--${kebabCase(name)}`;
}

export function envName(name: string): string {
  return kebabCase(name).replaceAll("-", "_").toUpperCase();
}

/** The variable that sets it; undefined when none does. */
export function variableOf(name: string, environment: Environment): string | undefined {
  if (environment === "nothing") return undefined;
  return `${environment === "own names" ? "" : environment.prefix}${envName(name)}`;
}

export function kebabCase(name: string): string {
  return name.replaceAll(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase();
}

/**
 * `--name value`, `--name=value`, `--flag`, `--no-flag`. The last of several wins, so that wrappers can be overruled.
 * Operands are what remains, where a command takes any, and everything behind `--`.
 */
export function readArguments(
  argv: readonly string[],
  known: readonly KnownName[],
  takesOperands: boolean,
): Source & { operands: string[] } {
  const byFlag = new Map(known.map((each) => [flagName(each.name), each]));
  const given = new Map<string, Given>();
  const [faults, operands]: [string[], string[]] = [[], []];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] ?? "";
    if (takesOperands && argument === "--") {
      operands.push(...argv.slice(i + 1));
      break;
    }
    if (!argument.startsWith("--")) {
      if (takesOperands && (argument === "-" || !argument.startsWith("-"))) operands.push(argument);
      else faults.push(unexpected(argument, takesOperands));
      continue;
    }
    const equals = argument.indexOf("=");
    const flag = equals < 0 ? argument : argument.slice(0, equals);
    const negated = flag.startsWith("--no-") ? byFlag.get(`--${flag.slice(5)}`) : undefined;
    const setting = byFlag.get(flag) ?? (negated?.isFlag ? negated : undefined);
    if (!setting) {
      faults.push(`${flag}: unknown setting.${didYouMean(flag.slice(2), flagsWithoutDashes(known), "--")}`);
      // What follows is most likely its value: no second fault, and not to be shown, it may be a password.
      if (equals < 0 && argv[i + 1]?.startsWith("--") === false) i++;
      continue;
    }
    let value: unknown = argument.slice(equals + 1);
    if (equals < 0 && setting.isFlag) value = setting !== negated;
    else if (equals < 0) {
      value = argv[i + 1];
      if (value === undefined || String(value).startsWith("--")) {
        faults.push(`${flag}: needs a value (${flag} value or ${flag}=value)`);
        continue;
      }
      i++;
    } else if (setting === negated) {
      faults.push(`${flag}: takes no value; write ${flag} or ${flagName(setting.name)}=true`);
      continue;
    }
    if (setting.isList) value = [...((given.get(setting.name)?.value as unknown[] | undefined) ?? []), value];
    given.set(setting.name, { name: setting.name, value, from: `flag ${flag}`, spell: (shown) => `${flag}=${shown}` });
  }
  return { given: [...given.values()], faults, operands };
}

function unexpected(argument: string, takesOperands: boolean): string {
  const forms = "settings are written --name value or --name=value";
  const behind = takesOperands ? "; a word that begins with a dash comes after --" : "";
  return `${argument}: unexpected argument; ${forms}${behind}`;
}

function flagsWithoutDashes(known: readonly KnownName[]): string[] {
  return known.map((each) => kebabCase(each.name));
}

/** Shells take quotation marks away, env files of Docker and systemd's do not all. */
const QUOTED =
  "begins and ends with a quotation mark, which is part of the value: take both away (a value that has them is for the configuration file)";

/** Looks only at the variables of known names. A variable set to nothing counts as unset. */
export function readEnvironment(
  env: Record<string, string | undefined>,
  known: readonly KnownName[],
  environment: Environment,
): Source {
  const given = known.flatMap(({ name }): Given[] => {
    const variable = variableOf(name, environment);
    const value = variable === undefined ? undefined : env[variable];
    if (!value) return [];
    const fault = hasQuotesAround(value) ? QUOTED : undefined;
    return [{ name, value, from: `environment ${variable}`, spell: (shown) => `${variable}=${shown}`, fault }];
  });
  return { given, faults: [] };
}

/** JSON or YAML with kebab-case keys. `null` counts as unset. */
export function readConfigFile(path: string, readFile: (path: string) => string, known: readonly KnownName[]): Source {
  let content: unknown;
  try {
    content = parseSettings(readFile(path));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { given: [], faults: [`${path}: the configuration file cannot be read: ${reason}`] };
  }
  if (content === null || content === undefined) return { given: [], faults: [] };
  if (typeof content !== "object" || Array.isArray(content)) {
    return { given: [], faults: [`${path}: expected a mapping of settings, such as "poll-interval: 60"`] };
  }
  const byKey = new Map(known.map(({ name }) => [kebabCase(name), name]));
  const source: Source = { given: [], faults: [] };
  for (const [key, value] of Object.entries(content)) {
    const name = byKey.get(key);
    if (name === undefined) {
      source.faults.push(`${key} (in ${path}): unknown setting.${didYouMean(key, [...byKey.keys()])}`);
    } else if (value !== null) {
      source.given.push({ name, value, from: `file ${path}`, spell: (shown) => `${key}: ${shown} (in ${path})` });
    }
  }
  return source;
}

/**
 * YAML, which JSON is too. Throws for invalid YAML, and for what the parser itself only warns of: it would read a
 * password that begins with "!" as empty. The parser's own words quote the file, which may hold passwords; these do not.
 */
function parseSettings(text: string): unknown {
  const document = parseDocument(text, { logLevel: "silent" });
  const [fault] = [...document.errors, ...document.warnings];
  if (fault) {
    const [start] = fault.linePos ?? [];
    const place = start === undefined ? "" : ` in line ${start.line}, column ${start.col}`;
    const advice = "values with signs such as ! * & : # are written in quotes";
    throw new SyntaxError(`${fault.code.toLowerCase().replaceAll("_", " ")}${place}; ${advice}`);
  }
  try {
    return document.toJS();
  } catch {
    // Thrown for aliases alone: one that stands for nothing, which its message quotes, or too many of them.
    throw new SyntaxError(
      'an alias without its anchor, or too many; a value that begins with "*" is written in quotes',
    );
  }
}
