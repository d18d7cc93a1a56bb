// What alerts say of the points of now: means of windows of arrival, compared with thresholds. Nothing here remembers.
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { Alert, AlertOperator } from "./alert.ts";
import { sortedEntries, type TransitionLevel } from "./transitions.ts";

/** One value of an alert: over all its points, or over those of one combination of its groupBy tags. */
export interface Measured {
  group: Readonly<Record<string, string>>;
  /** Mean over the window; undefined: the group has been seen lately, and has no points in the window. */
  mean: number | undefined;
}

export interface Measurement {
  /** Begin of the window, milliseconds. Its end is the time of the evaluation, exclusive. */
  windowStartMs: number;
  values: readonly Measured[];
  /** There are more groups than GROUPS_MAX; those after it in the order of their values are not here. */
  isCut: boolean;
}

/** Groups of one alert that are looked at. */
export const GROUPS_MAX = 1000;
/** A group without points in the window is silent, rather than unknown, for this long. Longer: it has an open state. */
const SILENT_MS_MAX = 3_600_000;
/** Conditions of one query; what it reads is filtered by each of them. */
const CONDITIONS_MAX = 50;
/** A request's address, which carries its parameters, is at most 1 MiB for ClickHouse. */
const PARAM_CHARS_MAX = 200_000;
const QUERY_SECONDS_MAX = 25;

/** Alerts that ask the same, at whatever thresholds. */
interface Question {
  alerts: [Alert, ...Alert[]];
  /** Of its parameters, in an address. */
  chars: number;
}

interface SharedRow {
  /** Text, since JSON has no infinity. */
  means: string[];
  counts: string[];
}

interface GroupRow {
  g: string[];
  mean: string;
  n: string;
}

type Answers = [Question, Measured[]][];

export interface MeasureOptions {
  warehouse: Warehouse;
  nowMs: number;
  signal: AbortSignal;
  /** Alerts whose query was refused: they are left out of the result. */
  onFailure(alerts: readonly Alert[], error: unknown): void;
}

/** Measurements by alert id. Rejects with WarehouseError when ClickHouse cannot be asked at all. */
export async function measure(
  alerts: readonly Alert[],
  { warehouse, nowMs, signal, onFailure }: MeasureOptions,
): Promise<Map<string, Measurement>> {
  const measured = new Map<string, Measurement>();
  const run = async <Row>({ sql, params }: Query): Promise<Row[]> =>
    warehouse.query<Row>(sql, { params, signal, maxSeconds: QUERY_SECONDS_MAX });

  async function ask(questions: Question[]): Promise<void> {
    const [first] = questions;
    const isGrouped = first !== undefined && first.alerts[0].groupBy.length > 0;
    const answers: Answers = isGrouped
      ? [[first, groupValues(first, await run<GroupRow>(groupQuery(first.alerts[0], nowMs)))]]
      : sharedValues(questions, await run<SharedRow>(sharedQuery(questions, nowMs)));
    for (const [question, values] of answers) {
      const isCut = values.length > GROUPS_MAX;
      for (const { id, durationMs } of question.alerts) {
        measured.set(id, { windowStartMs: nowMs - durationMs, values: values.slice(0, GROUPS_MAX), isCut });
      }
    }
  }

  for (const questions of inQueries(questionsOf(alerts))) {
    try {
      await ask(questions);
    } catch (error) {
      signal.throwIfAborted();
      // Not answered at all: then no other question is.
      if (!(error instanceof WarehouseError) || error.code === undefined) throw error;
      // One alert over too many points must not silence the others: each is asked for by itself.
      for (const question of questions) {
        try {
          await ask([question]);
        } catch (failure) {
          signal.throwIfAborted();
          onFailure(question.alerts, failure);
        }
      }
    }
  }
  return measured;
}

/** In the order of metrics, so that those of one metric meet in one query. */
function questionsOf(alerts: readonly Alert[]): Question[] {
  const questions = new Map<string, Question>();
  for (const alert of alerts) {
    const { metric, tags, durationMs, groupBy } = alert;
    const name = JSON.stringify([metric, sortedEntries(tags), durationMs, groupBy, listsSilent(alert)]);
    const known = questions.get(name);
    if (known) known.alerts.push(alert);
    else questions.set(name, { alerts: [alert], chars: encodeURIComponent(name).length });
  }
  return [...questions].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, question]) => question);
}

/** Without groups one query answers many, each by a condition; with groups it answers one. */
function* inQueries(questions: readonly Question[]): Generator<Question[]> {
  let shared: Question[] = [];
  let chars = 0;
  for (const question of questions) {
    if (question.alerts[0].groupBy.length > 0) {
      yield [question];
      continue;
    }
    if (shared.length === CONDITIONS_MAX || (shared.length > 0 && chars + question.chars > PARAM_CHARS_MAX)) {
      yield shared;
      shared = [];
      chars = 0;
    }
    shared.push(question);
    chars += question.chars;
  }
  if (shared.length > 0) yield shared;
}

interface Query {
  sql: string;
  params: Record<string, unknown>;
}

function sharedQuery(questions: readonly Question[], nowMs: number): Query {
  const asked = questions.map(({ alerts: [alert] }) => alert);
  const params: Record<string, unknown> = {
    metrics: [...new Set(asked.map(({ metric }) => metric))],
    since: nowMs - Math.max(...asked.map(({ durationMs }) => durationMs)),
    to: nowMs,
  };
  const conditions = asked.map((alert, at) => {
    params[`m${at}`] = alert.metric;
    params[`f${at}`] = nowMs - alert.durationMs;
    return [`metric = {m${at}:String}`, `log_time >= ${time(`f${at}`)}`, ...hasTags(alert, `q${at}_`, params)].join(
      " AND ",
    );
  });
  const sql = `SELECT [${conditions.map((condition) => `toString(avgIf(value, ${condition}))`).join(", ")}] AS means,
      [${conditions.map((condition) => `countIf(${condition})`).join(", ")}] AS counts
    FROM points_all WHERE metric IN {metrics:Array(String)} AND log_time >= ${time("since")} AND log_time < ${time("to")}`;
  return { sql, params };
}

function sharedValues(questions: readonly Question[], [row]: readonly SharedRow[]): Answers {
  return questions.map((question, at) => {
    const mean = Number(row?.counts[at] ?? 0) === 0 ? undefined : finite(row?.means[at] ?? "");
    return [question, [{ group: {}, mean }]];
  });
}

function groupQuery(alert: Alert, nowMs: number): Query {
  const { metric, durationMs, groupBy } = alert;
  const from = nowMs - durationMs;
  const since = listsSilent(alert) ? from - SILENT_MS_MAX : from;
  const params: Record<string, unknown> = { metric, from, since, to: nowMs, limit: GROUPS_MAX + 1 };
  const group = groupBy.map((name, at) => {
    params[`g${at}`] = name;
    return `tags[{g${at}:String}]`;
  });
  const conditions = [
    ...["metric = {metric:String}", `log_time >= ${time("since")}`, `log_time < ${time("to")}`],
    ...hasTags(alert, "", params),
  ];
  const inWindow = `log_time >= ${time("from")}`;
  const sql = `SELECT [${group.join(", ")}] AS g, toString(avgIf(value, ${inWindow})) AS mean, countIf(${inWindow}) AS n
    FROM points_all WHERE ${conditions.join(" AND ")} GROUP BY g ORDER BY g LIMIT {limit:UInt32}`;
  return { sql, params };
}

function groupValues({ alerts: [alert] }: Question, rows: readonly GroupRow[]): Measured[] {
  return rows.map(({ g, mean, n }) => ({
    group: Object.fromEntries(alert.groupBy.map((name, at) => [name, g[at] ?? ""])),
    mean: Number(n) === 0 ? undefined : finite(mean),
  }));
}

/** Conditions for all tags of the alert, whose names and values become parameters. */
function hasTags(alert: Alert, prefix: string, params: Record<string, unknown>): string[] {
  return sortedEntries(alert.tags).map(([name, value], at) => {
    params[`${prefix}t${at}`] = name;
    params[`${prefix}v${at}`] = value;
    return `tags[{${prefix}t${at}:String}] = {${prefix}v${at}:String}`;
  });
}

function time(param: string): string {
  return `fromUnixTimestamp64Milli({${param}:Int64})`;
}

function listsSilent({ noData, groupBy }: Alert): boolean {
  return noData === "breach" && groupBy.length > 0;
}

/** A sum over the largest number is larger than every threshold, and must be storable. */
function finite(text: string): number | undefined {
  if (text === "inf") return Number.MAX_VALUE;
  if (text === "-inf") return -Number.MAX_VALUE;
  const value = Number(text);
  return Number.isNaN(value) ? undefined : value;
}

const COMPARE: Readonly<Record<AlertOperator, (mean: number, threshold: number) => boolean>> = {
  eq: (mean, threshold) => mean === threshold,
  ne: (mean, threshold) => mean !== threshold,
  lt: (mean, threshold) => mean < threshold,
  le: (mean, threshold) => mean <= threshold,
  gt: (mean, threshold) => mean > threshold,
  ge: (mean, threshold) => mean >= threshold,
};

/** Level that the mean calls for; undefined: there is no data, and the level stays as it is. */
export function levelOf(alert: Alert, mean: number | undefined): TransitionLevel | undefined {
  if (mean === undefined) return alert.noData === "breach" ? alert.level : undefined;
  return COMPARE[alert.operator](mean, alert.threshold) ? alert.level : "ok";
}
