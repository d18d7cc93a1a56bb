// The kinds of settings a service can have. Each builder is a zod schema that takes what a flag, an environment variable
// or a configuration file gives (text, or a YAML/JSON scalar or list) and carries what --help and faults say about it.
import { z } from "zod";

export interface SettingInfo {
  /** The form the value must have, as it follows "expected". */
  expected: string;
  /** Placeholder in --help; absent for a boolean, which takes no value. */
  placeholder?: string;
  /** Default as --help shows it. */
  defaultText?: string;
  /** The value must not be shown anywhere. */
  secret?: boolean;
  /** Neither the environment nor the configuration file can set it. */
  argumentOnly?: boolean;
  /** No setting any more: the value that everybody has, which nobody can change. */
  fixed?: string;
  /** Given several times on the command line, all values are meant. */
  isList?: boolean;
}

/** What config.ts knows of a setting besides its zod schema. */
export const settingInfo = z.registry<SettingInfo>();

export type Setting<T> = z.ZodType<T, unknown>;

export type Read<T> = { value: T } | { fault: string };

const UNITS_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;
type DurationUnit = keyof typeof UNITS_MS;

const UNITS_BYTES: Record<string, number> = {
  "": 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
};

export function setting<T>(info: SettingInfo, defaultValue: T, read: (raw: unknown) => Read<T>): Setting<T> {
  const schema = z.unknown().transform((raw, context): T => {
    if (raw === undefined || raw === null) return defaultValue;
    const result = read(raw);
    if ("value" in result) return result.value;
    context.addIssue({ code: "custom", message: result.fault });
    return z.NEVER;
  });
  return schema.register(settingInfo, info);
}

export function expected<T>(info: SettingInfo): Read<T> {
  return { fault: `expected ${info.expected}` };
}

/** What was a setting once and nobody had a reason to change: a constant, which the refusal of its old flag names. */
export function fixed<T>(value: T, shown = String(value)): Setting<T> {
  return setting({ expected: shown, fixed: shown }, value, () => ({ value }));
}

/** TCP port. 0 lets the system choose a free one. */
export function port(defaultPort: number): Setting<number> {
  return count(defaultPort, { min: 0, max: 65_535 }, "a port number");
}

export interface CountBounds {
  min?: number;
  max?: number;
}

/** Whole number; not negative unless `min` says so. */
export function count(defaultCount: number, bounds: CountBounds = {}, noun = "a whole number"): Setting<number> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = bounds;
  const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `${min} to ${max}`;
  const info = { expected: `${noun}, ${range}`, placeholder: "number", defaultText: String(defaultCount) };
  return setting(info, defaultCount, (raw) => {
    const value = typeof raw === "string" && /^[+-]?\d+$/.test(raw.trim()) ? Number(raw) : raw;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) return expected(info);
    return { value };
  });
}

export interface DurationBounds {
  /** Milliseconds. */
  min?: number;
  /** Milliseconds. */
  max?: number;
  /** Unit of a number without one, for settings whose older systems took bare numbers. */
  bareUnit?: DurationUnit;
}

/** Length of time in milliseconds, from text such as "500ms", "1s", "1m30s", "8h", "2d", "1w". */
export function duration(defaultText: string, bounds?: DurationBounds): Setting<number>;
export function duration(defaultText?: undefined, bounds?: DurationBounds): Setting<number | undefined>;
export function duration(defaultText?: string, bounds: DurationBounds = {}): Setting<number | undefined> {
  const { min: minMs = 0, max: maxMs = Number.MAX_SAFE_INTEGER } = bounds;
  const range = [
    ...(minMs > 0 ? [`at least ${durationText(minMs)}`] : []),
    ...(maxMs < Number.MAX_SAFE_INTEGER ? [`at most ${durationText(maxMs)}`] : []),
  ];
  const forms = bounds.bareUnit ? `60 (in ${bounds.bareUnit}), 500ms, 1s or 1m30s` : "500ms, 1s, 5m, 1m30s or 8h";
  const info: SettingInfo = {
    expected: [`a duration such as ${forms}`, ...range].join(", "),
    placeholder: "duration",
    ...(defaultText === undefined ? {} : { defaultText }),
  };
  const defaultMs = defaultText === undefined ? undefined : wellFormed(defaultText, bounds.bareUnit);
  return setting<number | undefined>(info, defaultMs, (raw) => {
    const isBare = typeof raw === "number" || (typeof raw === "string" && /^\d+(\.\d+)?$/.test(raw.trim()));
    if (isBare && Number(raw) !== 0 && !bounds.bareUnit) {
      return {
        fault: `needs a unit (ms, s, m, h, d or w): ${Number(raw)}s for seconds, ${Number(raw)}ms for milliseconds`,
      };
    }
    const value = parseDuration(String(raw), bounds.bareUnit ?? "ms");
    return value === undefined || value < minMs || value > maxMs ? expected(info) : { value };
  });
}

function wellFormed(text: string, bareUnit?: DurationUnit): number {
  const value = parseDuration(text, bareUnit);
  if (value === undefined) throw new TypeError(`a setting is declared with an invalid duration: ${text}`);
  return value;
}

/** In the largest unit that says it without a fraction. */
function durationText(ms: number): string {
  const units = Object.entries(UNITS_MS).toReversed();
  const [unit, size] = units.find(([, unitMs]) => ms % unitMs === 0) ?? ["ms", 1];
  return `${ms / size}${unit}`;
}

function parseDuration(text: string, bareUnit?: DurationUnit): number | undefined {
  const trimmed = text.trim();
  if (bareUnit && /^\d+(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * UNITS_MS[bareUnit]);
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/.test(trimmed)) return undefined;
  let total = 0;
  for (const [, amount, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g)) {
    total += Number(amount) * UNITS_MS[unit as DurationUnit];
  }
  return Math.round(total);
}

/** Number of bytes, from "20971520", "8MB" (8,000,000) or "8MiB" (8,388,608). */
export function bytes(defaultBytes: number | string, bounds: CountBounds = {}): Setting<number> {
  const { min = 1, max = Number.MAX_SAFE_INTEGER } = bounds;
  const range = max === Number.MAX_SAFE_INTEGER ? `at least ${min} bytes` : `${min} to ${max} bytes`;
  const info = {
    expected: `a size such as 1048576, 8MB or 8MiB, ${range}`,
    placeholder: "size",
    defaultText: String(defaultBytes),
  };
  const defaultValue = parseBytes(defaultBytes);
  if (defaultValue === undefined) throw new TypeError(`a setting is declared with an invalid size: ${defaultBytes}`);
  return setting(info, defaultValue, (raw) => {
    const value = parseBytes(raw);
    return value === undefined || value < min || value > max ? expected(info) : { value };
  });
}

function parseBytes(raw: unknown): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?([kmg]?i?b)?$/i.exec(String(raw).trim());
  const unit = UNITS_BYTES[match?.[2]?.toLowerCase() ?? ""];
  const value = match && unit ? Number(match[1]) * unit : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Boolean; on the command line `--x` and `--no-x`. */
export function flag(defaultValue: boolean): Setting<boolean> {
  return booleanSetting({ expected: "true or false", defaultText: String(defaultValue) }, defaultValue);
}

/**
 * Boolean, false unless the argument is given. For what one call is to do: a variable that is still set from yesterday
 * must not make today's audit a repair.
 */
export function argument(): Setting<boolean> {
  return booleanSetting({ expected: "true or false", argumentOnly: true }, false);
}

function booleanSetting(info: SettingInfo, defaultValue: boolean): Setting<boolean> {
  return setting(info, defaultValue, (raw) => {
    const word = String(raw).trim().toLowerCase();
    if (["true", "1", "yes"].includes(word)) return { value: true };
    if (["false", "0", "no"].includes(word)) return { value: false };
    return expected(info);
  });
}

/** List, from comma-separated text or a list in the configuration file; blanks are dropped. */
export function csv(
  defaults: readonly string[] = [],
  { secret = false, faultOf }: { secret?: boolean; faultOf?: (item: string) => string | undefined } = {},
): Setting<readonly string[]> {
  const info = {
    expected: "a comma-separated list",
    placeholder: "a,b,...",
    secret,
    ...(defaults.length === 0 ? {} : { defaultText: defaults.join(",") }),
  };
  return setting(info, defaults, (raw) => {
    const items: unknown = typeof raw === "string" ? raw.split(",") : raw;
    if (!Array.isArray(items) || !items.every((item) => typeof item === "string")) return expected(info);
    const value = items.map((item) => item.trim()).filter((item) => item !== "");
    const judge = faultOf ?? (secret ? secretFault : undefined);
    const fault = judge && value.map(judge).find((each) => each !== undefined);
    return fault === undefined ? { value } : { fault };
  });
}

function textLike(info: SettingInfo, defaultText: string | undefined, read: (raw: string) => Read<string>) {
  const shown = defaultText === undefined || info.secret ? info : { ...info, defaultText };
  return setting<string | undefined>(shown, defaultText, (raw) => {
    // YAML reads 0123 or 1e3 as numbers; turning them back into text would change a password without a word.
    if (typeof raw !== "string") return { fault: `expected ${info.expected}; put it in quotes in the file` };
    return read(raw);
  });
}

/** Text; never blank when given. Undefined when unset and without a default. */
export function text(defaultText: string): Setting<string>;
export function text(): Setting<string | undefined>;
export function text(defaultText?: string): Setting<string | undefined> {
  const info = { expected: "text that is not blank", placeholder: "text" };
  return textLike(info, defaultText, (raw) => (raw.trim() === "" ? expected(info) : { value: raw.trim() }));
}

/**
 * Text that is never shown in faults or help. Taken as it is, also empty when a flag or file says so; but not with what
 * comes from a file or a paste by accident, and what no caller could ever send.
 */
export function secret(defaultText: string): Setting<string>;
export function secret(): Setting<string | undefined>;
export function secret(defaultText?: string): Setting<string | undefined> {
  return textLike({ expected: "text", placeholder: "secret", secret: true }, defaultText, (value) => {
    const fault = secretFault(value);
    return fault === undefined ? { value } : { fault };
  });
}

function secretFault(value: string): string | undefined {
  if (/[\r\n]/.test(value)) return "has a line break in it, as from a file whose last line ends: take it away";
  if (/[^\P{Cc}\t]/u.test(value)) return "has a control character, which no header can carry: remove it";
  if (value !== value.trim()) return "begins or ends with a blank, which is lost on the way: take it away";
  return hasQuotesAround(value)
    ? "begins and ends with a quotation mark, which would be part of it: take both away"
    : undefined;
}

/** As env files of Docker keep them. */
export function hasQuotesAround(value: string): boolean {
  return value.length > 1 && /^(["']).*\1$/s.test(value);
}

/** http or https address without credentials, query and trailing slash; with `pathFault` also without a path. */
export function httpUrl(defaultUrl: string, bounds?: { pathFault: string }): Setting<string>;
export function httpUrl(defaultUrl?: undefined, bounds?: { pathFault: string }): Setting<string | undefined>;
export function httpUrl(defaultUrl?: string, bounds?: { pathFault: string }): Setting<string | undefined> {
  const info = { expected: "an address that begins with http:// or https://", placeholder: "url" };
  return textLike(info, defaultUrl, (raw) => {
    const url = URL.parse(raw.trim());
    if (!url || !/^https?:$/.test(url.protocol)) return expected(info);
    if (url.username || url.password || url.search || url.hash) {
      return { fault: "expected an address without user, password, ? or #; give those by their own settings" };
    }
    if (bounds && /[^/]/.test(url.pathname)) return { fault: bounds.pathFault };
    return { value: url.href.replace(/\/+$/, "") };
  });
}

/** One of a few words, in any case. */
export function oneOf<const W extends string>(words: readonly W[], defaultWord: NoInfer<W>): Setting<W> {
  const info = { expected: `one of ${words.join(", ")}`, placeholder: words.join("|"), defaultText: defaultWord };
  return setting<W>(info, defaultWord, (raw) => {
    const value = words.find((word) => word.toLowerCase() === String(raw).trim().toLowerCase());
    return value === undefined ? expected(info) : { value };
  });
}

/** Name of a database, table or topic part that is safe to write unquoted into SQL. */
export function identifier(defaultName: string): Setting<string> {
  const info = {
    expected: "a name of letters, digits and _, at most 63, not beginning with a digit",
    placeholder: "name",
  };
  const schema = textLike(info, defaultName, (raw) =>
    /^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(raw) ? { value: raw } : expected(info),
  );
  return schema as Setting<string>;
}
