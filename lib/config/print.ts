// The text of --print-config: the settings in effect as a configuration file that gives them again, and where each is from.
import { parse as parseYaml, stringify } from "yaml";
import type { z } from "zod";
import { settingInfo } from "./settings.ts";
import { type Given, kebabCase } from "./sources.ts";

const REDACTED = "<redacted>";

/**
 * One line a setting. Secrets, and what has no value to write, are comments; what only an argument can say is left out.
 * Every value in `chosen` must be one that its field takes.
 */
export function printedConfig(
  command: string,
  shape: Record<string, z.ZodType>,
  chosen: ReadonlyMap<string, Given>,
): string {
  const lines = Object.entries(shape)
    .filter(([, field]) => settingInfo.get(field)?.argumentOnly !== true)
    .map(([key, field]) => settingLine(kebabCase(key), field, chosen.get(key)));
  return [`# ${command}: settings in effect and where they are from. Secrets are left out.`, ...lines, ""].join("\n");
}

function settingLine(key: string, field: z.ZodType, given: Given | undefined): string {
  const source = given?.from ?? "default";
  if (settingInfo.get(field)?.secret === true) {
    return given ? `# ${key}: ${REDACTED} # ${source}` : `# ${key}: unset`;
  }
  const text = valueText(field, given);
  if (text === undefined) return `# ${key}: unset`;
  const shown = shownValue(text, false);
  // Credentials in an address: without them it would be another value, and not one to start with.
  return shown === text ? `${key}: ${text} # ${source}` : `# ${key}: ${shown} # ${source}`;
}

/** Its default, if a file can say it. */
export function defaultYaml(field: z.ZodType): string | undefined {
  return valueText(field, undefined);
}

/** YAML on one line that the field reads as the value in effect; undefined when there is none to write. */
function valueText(field: z.ZodType, given: Given | undefined): string | undefined {
  const candidates = [field.safeParse(given?.value).data, given?.value, settingInfo.get(field)?.defaultText];
  const writable = candidates.find((each) => each !== undefined && sameValue(field, each, given?.value));
  return writable === undefined ? undefined : yamlText(field, writable);
}

function yamlText(field: z.ZodType, value: unknown): string {
  // 9000 rather than "9000", where the setting takes both for the same.
  if (typeof value === "string" && /^(true|false|\d+)$/.test(value) && sameValue(field, parseYaml(value), value)) {
    return value;
  }
  const text = stringify(value, { collectionStyle: "flow", lineWidth: 0 }).trimEnd();
  return text.includes("\n") ? JSON.stringify(value) : text;
}

/** Whether the field takes both, and reads them as the same. */
export function sameValue(field: z.ZodType, a: unknown, b: unknown): boolean {
  const [left, right] = [field.safeParse(a), field.safeParse(b)];
  return left.success && right.success && JSON.stringify(left.data) === JSON.stringify(right.data);
}

/** Credentials inside an address are hidden in any setting: people paste them into the wrong one. */
export function shownValue(value: unknown, secret: boolean): string {
  if (secret) return REDACTED;
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
  // Up to the last @: passwords that were pasted unescaped have such signs, and slashes.
  const withoutUser = text.includes("//")
    ? text.replace(/\/\/.*@/s, `//${REDACTED}@`)
    : text.replace(/^.*:.*@/s, `${REDACTED}@`);
  return withoutUser.replaceAll(/\b(password|token|secret)=[^&\s]*/gi, `$1=${REDACTED}`);
}
