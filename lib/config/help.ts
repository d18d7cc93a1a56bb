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

const LEAVE_THEM = "Leave these as they are unless you know why:";

/** A command with more settings than these shows in --help what people set first, and the others in --help all. */
const SHOWN_AT_ONCE_MAX = 28;

/** What people set first, of all commands. */
const SET_FIRST = new Set(
  `host port publicApiKeys secretApiKeys allowedOrigins trustedProxies allowAnonymous tlsCert tlsKey kafkaBrokers kafkaSsl
  kafkaSaslMechanism kafkaSaslUsername kafkaSaslPassword clickhouseUrl clickhouseUser clickhousePassword clickhouseDatabase
  clickhouseHttpPort dataDir statsPort statsToken corsAllow timeZone relayPort relayToken relayHttpPort consumerPort
  eventsRetention pointsRetention logRetention logLevel configFile checkConfig printConfig help`.split(/\s+/),
);

/** Whether people set it before others. */
export function isSetFirst(key: string, field: z.ZodType, shape: Record<string, z.ZodType>): boolean {
  const isShort = Object.keys(shape).length <= SHOWN_AT_ONCE_MAX;
  return isShort || SET_FIRST.has(key) || settingInfo.get(field)?.argumentOnly === true;
}

export function helpText(input: HelpInput, shape: Record<string, z.ZodType>, showsAll: boolean): string {
  const { command, summary, usage = `${command} [settings]`, environment = "own names" } = input;
  const fields = Object.entries(shape);
  const isFirst = ([key, field]: [string, z.ZodType]) => isSetFirst(key, field, shape);
  const others = fields.filter((each) => !isFirst(each));
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
  for (const [key, field] of fields.filter(isFirst)) lines.push(...settingLines(key, field, input));
  if (others.length > 0 && !showsAll) {
    lines.push("", `${others.length} more, whose defaults are right for almost everybody: ${command} --help all`);
  } else if (others.length > 0) {
    lines.push("", LEAVE_THEM, "");
    for (const [key, field] of others) lines.push(...settingLines(key, field, input));
  }
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
