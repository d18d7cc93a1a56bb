// The text of --help, from the same schema that reads the settings.
import type { z } from "zod";
import { ALIASES } from "./aliases.ts";
import type { Letters } from "./letters.ts";
import { settingInfo } from "./settings.ts";
import { type Environment, flagName, kebabCase, variableOf } from "./sources.ts";

const NO_VARIABLE = new Set(["checkConfig", "printConfig", "help"]);

export interface HelpInput {
  command: string;
  summary: string;
  usage?: string | undefined;
  environment?: Environment | undefined;
  letters?: Letters | undefined;
}

export function helpText(input: HelpInput, shape: Record<string, z.ZodType>): string {
  const { command, summary, usage = `${command} [settings]`, environment = "own names" } = input;
  const isRead = environment !== "nothing";
  const places = isRead ? "each as flag, environment variable or key in" : "each as flag or key in";
  const lines = [
    `${command}: ${summary}`,
    "",
    `Usage: ${usage}`,
    "",
    `Settings, ${places} the configuration file:`,
    "",
  ];
  for (const [key, field] of Object.entries(shape)) lines.push(...settingLines(key, field, input));
  const aliases = ALIASES.filter((alias) => alias.targets[0] in shape);
  if (aliases.length > 0) {
    lines.push("", "Other names, for set-ups that have them:");
    for (const { name, targets } of aliases) {
      const known = targets.filter((target) => target in shape).map((target) => variableOf(target, environment));
      lines.push(`  ${variableOf(name, environment)} sets ${known.join(", ")}`);
    }
  }
  const order = isRead ? "the environment, the environment over the file" : "the file";
  lines.push("", `A flag wins over ${order}, the file over the default.`, "");
  return lines.join("\n");
}

function settingLines(key: string, field: z.ZodType, { environment = "own names", letters = {} }: HelpInput): string[] {
  const info = settingInfo.get(field);
  const placeholder = info?.placeholder === undefined ? "" : ` <${info.placeholder}>`;
  const variable = NO_VARIABLE.has(key) || info?.argumentOnly ? undefined : variableOf(key, environment);
  const letter = Object.keys(letters).find((each) => letters[each] === kebabCase(key));
  const isLasting = variable !== undefined || environment === "nothing";
  const hasDefault = info?.defaultText !== undefined && isLasting && !NO_VARIABLE.has(key);
  const short = letter === undefined ? "" : `-${letter}  `;
  const details = [variable, hasDefault && `default ${info.defaultText}`].filter(Boolean).join(", ");
  const head = `  ${`${flagName(key)}${placeholder}`.padEnd(40)} ${short}${details}`.trimEnd();
  return field.description ? [head, `      ${field.description}`] : [head];
}
