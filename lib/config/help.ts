// The text of --help, from the same schema that reads the settings.
import type { z } from "zod";
import { ALIASES } from "./aliases.ts";
import { settingInfo } from "./settings.ts";
import { envName, flagName } from "./sources.ts";

const NO_VARIABLE = new Set(["checkConfig", "printConfig", "help"]);

export function helpText(command: { command: string; summary: string }, shape: Record<string, z.ZodType>): string {
  const lines = [`${command.command}: ${command.summary}`, "", `Usage: ${command.command} [settings]`, ""];
  lines.push("Settings, each as flag, environment variable or key in the configuration file:", "");
  for (const [key, field] of Object.entries(shape)) lines.push(...settingLines(key, field));
  const aliases = ALIASES.filter((alias) => alias.targets[0] in shape);
  if (aliases.length > 0) {
    lines.push("", "Other names, for set-ups that have them:");
    for (const { name, targets } of aliases) {
      const known = targets.filter((target) => target in shape).map(envName);
      lines.push(`  ${envName(name)} sets ${known.join(", ")}`);
    }
  }
  lines.push("", "A flag wins over the environment, the environment over the file, the file over the default.", "");
  return lines.join("\n");
}

function settingLines(key: string, field: z.ZodType): string[] {
  const info = settingInfo.get(field);
  const placeholder = info?.placeholder === undefined ? "" : ` <${info.placeholder}>`;
  const variable = NO_VARIABLE.has(key) || info?.argumentOnly ? "" : envName(key);
  const details = [variable];
  if (info?.defaultText !== undefined && variable) details.push(`default ${info.defaultText}`);
  const head = `  ${`${flagName(key)}${placeholder}`.padEnd(40)} ${details.filter(Boolean).join(", ")}`.trimEnd();
  return field.description ? [head, `      ${field.description}`] : [head];
}
