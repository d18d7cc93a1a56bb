// The settings of a service: flag over environment over configuration file over default, from one zod schema, with all
// faults reported together. Reads nothing global: arguments and environment are handed in.
import { readFileSync } from "node:fs";
import type { z } from "zod";
import { ALIASES, type Alias } from "./aliases.ts";
import { tableText } from "./command-table.ts";
import { helpText } from "./help.ts";
import { type Letters, withLongNames } from "./letters.ts";
import { printedConfig, sameValue, shownValue } from "./print.ts";
import { flag, settingInfo, text } from "./settings.ts";
import {
  type Environment,
  envName,
  flagName,
  type Given,
  type KnownName,
  readArguments,
  readConfigFile,
  readEnvironment,
  variableOf,
} from "./sources.ts";

export interface ConfigInput {
  /** Arguments after the command. */
  argv: readonly string[];
  env: Record<string, string | undefined>;
  /** As a user types it: "millrace gateway". */
  command: string;
  /** One line for --help. */
  summary: string;
  readFile?: ((path: string) => string) | undefined;
  /** Default "own names". */
  environment?: Environment | undefined;
  /** Whether arguments that are no settings are taken; otherwise each is a fault. */
  takesOperands?: boolean | undefined;
  /** Flags of one letter, with the settings they stand for, in kebab-case. */
  letters?: Letters | undefined;
  /** The forms of the command and what their words mean, as --help has them; default: the command and settings. */
  usage?: string | undefined;
  /** Names of subcommands, each with the schema keys that only some of them have. */
  subcommands?: Record<string, readonly string[]> | undefined;
}

/** Everything but `config` is for the caller to print and to end with: stdout for 0, stderr for 2. */
export type ConfigOutcome<C> =
  | {
      kind: "config";
      config: C;
      operands: readonly string[];
      /** Settings that stand on the command line. */
      flags: readonly string[];
    }
  | { kind: "help" | "checked" | "printed"; text: string; exitCode: 0 }
  | { kind: "faults"; faults: string[]; text: string; exitCode: 2 };

/** Settings of parseConfig itself, in the form of a schema so that they are read and explained like all others. */
const COMMON = {
  configFile: text().describe("JSON or YAML file with settings in kebab-case."),
  checkConfig: flag(false).describe("Check the settings and exit: 0 if they are valid, 2 if not."),
  printConfig: flag(false).describe("Print the settings in effect as such a file, secrets left out, and exit."),
  help: flag(false).describe("Show this text and exit; --help all: with the settings that hardly anybody sets."),
};

/**
 * Settings of one command. The schema's keys are camelCase; `pollInterval` is `--poll-interval`, `POLL_INTERVAL` and
 * `poll-interval:` in a file. Cross-field checks by `.superRefine` run even when other settings are invalid; their
 * issues must carry the key they are about as `path`.
 */
export function parseConfig<S extends z.ZodObject>(schema: S, input: ConfigInput): ConfigOutcome<z.output<S>> {
  const shape: Record<string, z.ZodType> = { ...schema.shape };
  const settable = Object.fromEntries(Object.entries(shape).filter(([, field]) => fixedText(field) === undefined));
  const argv = longArguments(input, shape);
  if (argv.includes("--help=json")) {
    return { kind: "help", text: tableText(input, { ...settable, ...COMMON }), exitCode: 0 };
  }
  if (argv.includes("--help") || argv.includes("--help=all")) {
    return { kind: "help", text: helpText(input, { ...settable, ...COMMON }, asksForAll(argv)), exitCode: 0 };
  }
  const { layers, faults, instead, operands, flags } = readLayers(shape, input, argv);
  const chosen = new Map<string, Given>();
  for (const layer of layers) {
    const translated = translateAliases(layer, shape);
    faults.push(...translated.faults);
    for (const given of translated.given) chosen.set(given.name, given);
  }
  const result = validate(schema, shape, chosen, input.environment);
  faults.push(...result.faults);
  if (faults.length > 0 || result.config === undefined) {
    return { kind: "faults", faults, text: faultsText(input.command, faults), exitCode: 2 };
  }
  if (instead.printConfig)
    return { kind: "printed", text: printedConfig(input.command, settable, chosen), exitCode: 0 };
  if (instead.checkConfig) return { kind: "checked", text: "configuration ok\n", exitCode: 0 };
  return { kind: "config", config: result.config, operands, flags };
}

/** `--help all`: also the settings that hardly anybody sets. */
function asksForAll(argv: readonly string[]): boolean {
  return argv.includes("--help=all") || argv[argv.indexOf("--help") + 1] === "all";
}

function longArguments({ argv, letters = { h: "help" } }: ConfigInput, shape: Record<string, z.ZodType>): string[] {
  const fields = Object.entries({ ...shape, ...COMMON });
  const valued = new Set(fields.filter(([, field]) => !isFlag(field)).map(([name]) => flagName(name)));
  return withLongNames(argv, letters, (flag) => valued.has(flag));
}

/** File, environment, flags: lowest first. */
function readLayers(shape: Record<string, z.ZodType>, input: ConfigInput, argv: readonly string[]) {
  const aliases = ALIASES.filter((alias) => alias.targets[0] in shape);
  const knownName = ([name, field]: [string, z.ZodType]): KnownName => ({
    name,
    isFlag: isFlag(field),
    isList: settingInfo.get(field)?.isList === true,
  });
  const own = [
    ...Object.entries(shape).map(knownName),
    ...aliases.map(({ name }) => ({ name, isFlag: false, isList: false })),
  ];
  const common = Object.entries(COMMON).map(knownName);
  const flags = readArguments(argv, [...own, ...common], input.takesOperands === true);
  const lasting = own.filter(({ name }) => !isArgumentOnly(shape[name]));
  const settable = lasting.filter(({ name }) => shape[name] === undefined || fixedText(shape[name]) === undefined);
  const anywhere = [...settable, ...common.filter(({ name }) => name === "configFile")];
  const environment = readEnvironment(input.env, anywhere, input.environment ?? "own names");
  const faults = [...flags.faults, ...environment.faults];
  const layers = [environment.given, flags.given].map((given) => given.filter(({ name }) => !(name in COMMON)));

  const last = (name: string) => [...environment.given, ...flags.given].findLast((given) => given.name === name)?.value;
  const configFile = last("configFile");
  if (typeof configFile === "string") {
    const readFile = input.readFile ?? ((path: string) => readFileSync(path, "utf8"));
    const file = readConfigFile(configFile, readFile, lasting);
    faults.push(...file.faults);
    layers.unshift(file.given);
  }
  const isAsked = (name: "checkConfig" | "printConfig"): boolean => {
    const asked = COMMON[name].safeParse(last(name));
    for (const issue of asked.error?.issues ?? []) faults.push(`${flagName(name)}: ${issue.message}`);
    return asked.data === true;
  };
  const instead = { checkConfig: isAsked("checkConfig"), printConfig: isAsked("printConfig") };
  const flagNames = layers.at(-1)?.map(({ name }) => name) ?? [];
  return { layers, faults, instead, operands: flags.operands, flags: flagNames };
}

/** Undefined for the name of an alias. */
function isArgumentOnly(field: z.ZodType | undefined): boolean {
  return field !== undefined && settingInfo.get(field)?.argumentOnly === true;
}

function fixedText(field: z.ZodType): string | undefined {
  return settingInfo.get(field)?.fixed;
}

function isFlag(field: z.ZodType): boolean {
  const info = settingInfo.get(field);
  return info !== undefined && info.placeholder === undefined && info.fixed === undefined;
}

/** Within one layer, an alias beside the setting it stands for must agree with it: neither could win by a rule. */
function translateAliases(layer: readonly Given[], shape: Record<string, z.ZodType>) {
  const given = layer.filter(({ name }) => name in shape);
  const faults: string[] = [];
  for (const from of layer) {
    const alias = ALIASES.find(({ name }) => name === from.name && !(name in shape));
    if (!alias) continue;
    const translation = alias.translate(String(from.value));
    if ("fault" in translation) {
      faults.push(`${from.spell(shownValue(from.value, secretAmong(alias, shape)))}: ${translation.fault}`);
      continue;
    }
    for (const [key, value] of Object.entries(translation.values)) {
      const field = shape[key];
      if (!field) continue;
      const other = given.find(({ name }) => name === key);
      const show = secretAmong(alias, shape);
      if (other && !sameValue(field, other.value, value)) {
        const both = `${other.spell(shownValue(other.value, isSecret(field)))} and ${from.spell(shownValue(from.value, show))}`;
        faults.push(`${both}: two names of one setting, with different values; set only ${envName(key)}`);
      } else if (!other) {
        given.push({ name: key, value, from: from.from, spell: () => from.spell(shownValue(from.value, show)) });
      }
    }
  }
  return { given, faults };
}

function secretAmong(alias: Alias, shape: Record<string, z.ZodType>): boolean {
  return alias.targets.some((key) => shape[key] !== undefined && isSecret(shape[key]));
}

function isSecret(field: z.ZodType): boolean {
  return settingInfo.get(field)?.secret === true;
}

/**
 * Each field by itself first, then the whole with the faulty ones left out, so that one mistyped setting does not hide
 * the faults between others. What the second round says about a faulty or left-out field would be noise.
 */
function validate<S extends z.ZodObject>(
  schema: S,
  shape: Record<string, z.ZodType>,
  chosen: Map<string, Given>,
  environment: Environment = "own names",
) {
  const faults: string[] = [];
  const faulty = new Set<string>();
  const values: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(shape)) {
    const given = chosen.get(key);
    const constant = fixedText(field);
    const removed = given && constant !== undefined ? `is no setting any more: it is always ${constant}` : undefined;
    const fault = removed ?? given?.fault;
    const issues = fault ? [fault] : (field.safeParse(given?.value).error?.issues ?? []).map(messageOf);
    if (issues.length === 0) values[key] = given?.value;
    else {
      faulty.add(key);
      values[key] = undefined;
      faults.push(`${spelled(key, field, given, environment)}: ${issues.join("; ")}`);
    }
  }
  const whole = schema.safeParse(values);
  for (const issue of whole.success ? [] : whole.error.issues) {
    const key = String(issue.path[0] ?? "");
    const field = shape[key];
    if (faulty.has(key)) continue;
    faults.push(field ? `${spelled(key, field, chosen.get(key), environment)}: ${issue.message}` : issue.message);
  }
  return { config: whole.success ? whole.data : undefined, faults };
}

function messageOf({ message }: { message: string }): string {
  return message;
}

function spelled(key: string, field: z.ZodType, given: Given | undefined, environment: Environment): string {
  const variable = isArgumentOnly(field) ? undefined : variableOf(key, environment);
  if (!given) return `${variable === undefined ? flagName(key) : `${variable} (${flagName(key)})`}, not set`;
  return given.spell(shownValue(given.value, isSecret(field)));
}

function faultsText(command: string, faults: readonly string[]): string {
  const title = faults.length === 1 ? "1 setting is" : `${faults.length} settings are`;
  const lines = faults.map((fault) => `  ${fault}`);
  return [`${command}: ${title} not usable:`, ...lines, `"${command} --help" lists all settings.`, ""].join("\n");
}
