// From what callers write to a definition. The rules of a field are the same for the old routes and the AlertService;
// every field is looked at, so that one answer names all that is wrong.
import { quoted, shortened } from "#lib/process/printable.ts";
import {
  ALERT_LEVELS,
  ALERT_OPERATORS,
  type AlertDefinition,
  type AlertLevel,
  type AlertOperator,
  NO_DATA_RULES,
  type NoDataRule,
} from "./alert.ts";

/** Undefined stands for what the caller did not say. */
export interface DefinitionInput {
  metric?: string | undefined;
  tags?: Readonly<Record<string, string>> | undefined;
  level?: string | undefined;
  /** What is no operator stands for gt. */
  operator?: string | undefined;
  threshold?: number | string | undefined;
  /** Text such as "5m", or milliseconds. */
  duration?: number | string | undefined;
  post?: string | undefined;
  groupBy?: readonly string[] | undefined;
  noData?: string | undefined;
}

/**
 * type: it is of another JSON type. missing: it must be there. invalid: it is there and can mean nothing.
 * `message` has value and remedy and follows the field's name.
 */
export interface FieldFault {
  kind: "type" | "missing" | "invalid";
  field: string;
  message: string;
}

export interface DefinitionRules {
  /** How long raw points are kept, milliseconds; undefined: for ever. */
  pointsRetentionMs: number | undefined;
}

export type CheckedDefinition = { definition: AlertDefinition } | { faults: FieldFault[] };

/** As long as the names of points and events may be. */
const METRIC_BYTES_MAX = 200;
/** As many as a collector may have; as long as a relay's id, which is the tag `host`, may be. */
const TAGS_MAX = 32;
const TAG_BYTES_MAX = 1_024;
/** All of an alert: a thousand of them are read and answered at once. */
const TAGS_BYTES_MAX = 8_192;
const GROUP_BY_MAX = 8;
const OPERATOR_BYTES_MAX = 200;
const POST_CHARS_MAX = 2_048;
const NUMBER_CHARS_MAX = 100;
/** Bounds what an evaluation reads where points are kept for ever: 31 days. */
const DURATION_MS_MAX = 31 * 86_400_000;
const DEFAULT_LEVEL = "crit";
const DEFAULT_DURATION = "5m";
const SHOWN_CHARS = 100;

const UNITS_MS: Readonly<Record<string, number>> = {
  ...{ u: 0.001, µ: 0.001, ms: 1, s: 1_000 },
  ...{ m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 },
};

/** All faults, or the definition with defaults filled in. */
export function checkDefinition(input: DefinitionInput, { pointsRetentionMs }: DefinitionRules): CheckedDefinition {
  const faults: FieldFault[] = [];
  function checked<T>(field: string, read: () => T, whenWrong: T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof FaultFound)) throw error;
      faults.push({ kind: error.kind, field, message: error.message });
      return whenWrong;
    }
  }
  const { threshold } = input;
  const duration = input.duration === "" ? DEFAULT_DURATION : (input.duration ?? DEFAULT_DURATION);
  const operatorText = input.operator ?? "";
  const definition: AlertDefinition = {
    metric: checked("metric", () => readMetric(input.metric ?? ""), ""),
    tags: checked("tags", () => readTags(input.tags ?? {}), {}),
    level: checked("level", () => readLevel(input.level || DEFAULT_LEVEL), DEFAULT_LEVEL),
    operator: checked("operator", () => readOperator(operatorText), "gt"),
    operatorText,
    threshold: checked("threshold", () => readThreshold(threshold), 0),
    thresholdText: typeof threshold === "string" ? threshold : undefined,
    durationMs: checked("duration", () => readDuration(duration, pointsRetentionMs), 0),
    durationText: typeof duration === "number" ? durationText(duration) : duration,
    post: checked("post", () => readPost(input.post ?? ""), ""),
    groupBy: checked("group_by", () => readGroupBy(input.groupBy ?? []), []),
    noData: checked("no_data", () => readNoData(input.noData || "keep"), "keep"),
  };
  return faults.length === 0 ? { definition } : { faults };
}

class FaultFound extends Error {
  override readonly name = "FaultFound";
  readonly kind: FieldFault["kind"];

  constructor(message: string, kind: FieldFault["kind"] = "invalid") {
    super(message);
    this.kind = kind;
  }
}

function shown(value: string): string {
  const cut = value.slice(0, SHOWN_CHARS);
  return value.length > SHOWN_CHARS ? `${quoted(cut)}…` : quoted(cut);
}

function assertShort(what: string, value: string, bytesMax: number): void {
  const bytes = Buffer.byteLength(value);
  if (bytes > bytesMax) throw new FaultFound(`${what} has ${bytes} bytes; make it at most ${bytesMax}`);
}

function readMetric(metric: string): string {
  if (metric === "") throw new FaultFound("is missing; send the name of a metric, such as cpu_used", "missing");
  assertShort(shown(metric), metric, METRIC_BYTES_MAX);
  return metric;
}

function readTags(tags: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const entries = Object.entries(tags);
  if (entries.length > TAGS_MAX) throw new FaultFound(`has ${entries.length} tags; send at most ${TAGS_MAX}`);
  for (const [name, value] of entries) {
    if (name === "") throw new FaultFound('has a tag with an empty name; name it, as in {"host":"web-1"}');
    assertShort(`the name ${shown(name)}`, name, TAG_BYTES_MAX);
    assertShort(`the value of ${shown(name)}`, value, TAG_BYTES_MAX);
  }
  assertShort("the text of all", entries.flat().join(""), TAGS_BYTES_MAX);
  return tags;
}

function readLevel(level: string): AlertLevel {
  const known = ALERT_LEVELS.find((word) => word === level);
  if (!known) throw new FaultFound(`${shown(level)} is not a level; send info, warn or crit`);
  return known;
}

function readOperator(operator: string): AlertOperator {
  assertShort(shown(operator), operator, OPERATOR_BYTES_MAX);
  return ALERT_OPERATORS.find((word) => word === operator) ?? "gt";
}

function readThreshold(threshold: number | string | undefined): number {
  if (threshold === undefined || threshold === "") throw new FaultFound("is missing; send a number, such as 80");
  const isNumeric =
    typeof threshold === "number" ||
    (threshold.length <= NUMBER_CHARS_MAX && /^\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*$/i.test(threshold));
  if (!isNumeric) throw new FaultFound(`${shown(threshold)} is not a number; send a decimal number, such as 80`);
  const value = Number(threshold);
  if (!Number.isFinite(value)) throw new FaultFound(`${shown(String(threshold))} is not finite; send a finite number`);
  return value;
}

function readDuration(duration: number | string, retentionMs: number | undefined): number {
  const text = typeof duration === "number" ? `${duration}ms` : duration;
  const ms = typeof duration === "number" ? duration : parseDuration(duration);
  if (ms === undefined) {
    throw new FaultFound(
      `${shown(text)} is not a duration; send a whole number and one of u, ms, s, m, h, d and w, such as 30s or 5m`,
    );
  }
  if (ms < 1 || !Number.isInteger(ms)) throw new FaultFound(`${shown(text)} is not at least 1ms in whole milliseconds`);
  if (retentionMs !== undefined && ms > retentionMs) {
    const kept = durationText(retentionMs);
    throw new FaultFound(
      `${shown(text)} is longer than points are kept; send at most ${kept}, or raise POINTS_RETENTION from ${kept}`,
    );
  }
  if (ms > DURATION_MS_MAX) throw new FaultFound(`${shown(text)} is too long; send at most 31d`);
  return ms;
}

function parseDuration(text: string): number | undefined {
  if (text.length > NUMBER_CHARS_MAX || !/^(\d+(u|µ|ms|s|m|h|d|w))+$/.test(text)) return undefined;
  let totalMs = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+)(ms|[uµsmhdw])/g))
    totalMs += Number(amount) * (UNITS_MS[unit ?? ""] ?? 0);
  return totalMs;
}

/** In the largest unit that says it without a fraction. */
function durationText(ms: number): string {
  const [unit, size] = Object.entries(UNITS_MS)
    .toReversed()
    .find(([, unitMs]) => unitMs >= 1 && ms % unitMs === 0) ?? ["ms", 1];
  return `${ms / size}${unit}`;
}

function readPost(post: string): string {
  if (post === "") throw new FaultFound("is missing; send the URL to post to", "missing");
  const isHttp = /^https?:$/.test(URL.parse(post)?.protocol ?? "");
  if (!isHttp)
    throw new FaultFound(`${shown(post)} is not an http or https URL; send one such as https://example.com/alert`);
  if (post.length > POST_CHARS_MAX) {
    throw new FaultFound(
      `${shortened(post, SHOWN_CHARS)} has ${post.length} characters; send at most ${POST_CHARS_MAX}`,
    );
  }
  return post;
}

function readGroupBy(groupBy: readonly string[]): readonly string[] {
  if (groupBy.length > GROUP_BY_MAX) throw new FaultFound(`has ${groupBy.length} tags; send at most ${GROUP_BY_MAX}`);
  for (const name of groupBy) {
    if (name === "") throw new FaultFound('has an empty name; send names of tags, as in ["host"]');
    assertShort(`the name ${shown(name)}`, name, TAG_BYTES_MAX);
  }
  if (new Set(groupBy).size < groupBy.length) throw new FaultFound("names a tag twice; name each once");
  return groupBy;
}

function readNoData(rule: string): NoDataRule {
  const known = NO_DATA_RULES.find((word) => word === rule);
  if (!known) throw new FaultFound(`${shown(rule)} is not valid; send keep or breach`);
  return known;
}
