// What --help says, as a table: for shell completion and settings files.
import type { z } from "zod";
import { isSetFirst } from "./help.ts";
import { defaultYaml } from "./print.ts";
import { settingInfo } from "./settings.ts";
import { flagName, kebabCase } from "./sources.ts";

export interface SettingRow {
  /** With its dashes. */
  flag: string;
  /** In a settings file; undefined when only the command line can say it. */
  key?: string | undefined;
  /** Absent for a flag without a value. */
  placeholder?: string | undefined;
  /** As YAML on one line; undefined when there is none to write. */
  default?: string | undefined;
  meaning: string;
  isSecret: boolean;
  /** People set it before others. */
  isFirst: boolean;
}

export interface CommandTable {
  /** As after `millrace`. */
  name: string;
  summary: string;
  settings: SettingRow[];
  /** The flags of each that are not everybody's. */
  subcommands: Record<string, string[]>;
}

/** Settings of parseConfig itself, which no file can have. */
const OF_THE_CALL = new Set(["configFile", "checkConfig", "printConfig", "help"]);

/** JSON of a CommandTable. `subcommands` has the schema keys that are some subcommands' own. */
export function tableText(
  input: { command: string; summary: string; subcommands?: Record<string, readonly string[]> | undefined },
  shape: Record<string, z.ZodType>,
): string {
  const { command, summary, subcommands = {} } = input;
  const flagsOf = ([name, keys]: [string, readonly string[]]) => [name, keys.map(flagName)];
  const table: CommandTable = {
    name: command,
    summary,
    settings: Object.entries(shape).map(([key, field]) => settingRow(key, field, shape)),
    subcommands: Object.fromEntries(Object.entries(subcommands).map(flagsOf)),
  };
  return `${JSON.stringify(table)}\n`;
}

function settingRow(key: string, field: z.ZodType, shape: Record<string, z.ZodType>): SettingRow {
  const info = settingInfo.get(field);
  return {
    flag: flagName(key),
    key: info?.argumentOnly || OF_THE_CALL.has(key) ? undefined : kebabCase(key),
    placeholder: info?.placeholder,
    default: defaultYaml(field),
    meaning: field.description ?? "",
    isSecret: info?.secret === true,
    isFirst: isSetFirst(key, field, shape),
  };
}
