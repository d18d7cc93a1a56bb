// The dashboards of grafana/ as queries: what each panel asks, of which data source.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

interface Target {
  datasource?: { type?: string; uid?: string };
  refId?: string;
  expr?: string;
  legendFormat?: string;
  rawSql?: string;
}

export interface Panel {
  id: number;
  title: string;
  type: string;
  description?: string;
  datasource?: { type?: string; uid?: string };
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: Target[];
  panels?: Panel[];
}

interface Variable {
  name: string;
  type: string;
  datasource?: { type?: string; uid?: string };
  query?: string | { rawSql: string };
}

export interface Dashboard {
  uid: string;
  title: string;
  panels: Panel[];
  templating?: { list?: Variable[] };
}

/** One question of a panel or a variable. */
export interface Query {
  dashboard: string;
  panel: string;
  language: "promql" | "sql";
  text: string;
  legend: string;
}

const DIRECTORY = fileURLToPath(new URL("../../grafana/", import.meta.url));
/** Data sources by uid, as deploy/grafana/provisioning/datasources/millrace.yaml has them. */
const LANGUAGES: Readonly<Record<string, { type: string; language: Query["language"] }>> = {
  prometheus: { type: "prometheus", language: "promql" },
  clickhouse: { type: "grafana-clickhouse-datasource", language: "sql" },
};

/** By file name. */
export function readDashboards(): ReadonlyMap<string, Dashboard> {
  const files = readdirSync(DIRECTORY).filter((name) => name.endsWith(".json"));
  if (files.length === 0) throw new Error(`no dashboards in ${DIRECTORY}`);
  return new Map(files.sort().map((name) => [name, JSON.parse(readFileSync(`${DIRECTORY}${name}`, "utf8"))]));
}

/** All panels, those in collapsed rows too, without the rows themselves. */
export function panelsOf({ panels }: Pick<Dashboard, "panels">): Panel[] {
  return panels.flatMap((panel) => (panel.type === "row" ? (panel.panels ?? []) : [panel]));
}

/** Throws for a panel whose data source nobody provisions, or that asks nothing. */
export function queriesOf(file: string, dashboard: Dashboard): Query[] {
  const ofPanels = panelsOf(dashboard).flatMap(({ title, datasource, targets = [], type }) => {
    if (targets.length === 0 && type !== "text") throw new Error(`${file}: panel "${title}" asks nothing`);
    return targets.map((target) => toQuery(file, title, target.datasource ?? datasource, target));
  });
  const variables = (dashboard.templating?.list ?? []).filter(({ type }) => type === "query");
  const ofVariables = variables.map(({ name, datasource, query = "" }) =>
    toQuery(file, `variable ${name}`, datasource, typeof query === "string" ? { rawSql: query } : query),
  );
  return [...ofPanels, ...ofVariables];
}

function toQuery(file: string, panel: string, source: Target["datasource"], target: Target): Query {
  const known = LANGUAGES[source?.uid ?? ""];
  if (!known || known.type !== source?.type)
    throw new Error(`${file}: "${panel}" has the data source ${JSON.stringify(source)}, which is not provisioned`);
  const text = known.language === "promql" ? target.expr : target.rawSql;
  if (!text) throw new Error(`${file}: a query of "${panel}" is empty`);
  return { dashboard: file, panel, language: known.language, text, legend: target.legendFormat ?? "" };
}

export interface TimeRange {
  /** Seconds since 1970. */
  from: number;
  to: number;
  /** Between points, seconds. */
  step: number;
  /** What $__rate_interval stands for: Grafana has four scrape intervals. */
  rateInterval: string;
}

/** A query as Grafana sends it, with the variable values that "All" stands for. Throws for a macro it does not know. */
export function interpolate({ text }: Pick<Query, "text">, range: TimeRange, hosts: readonly string[] = []): string {
  const { from, to, step } = range;
  const seconds = to - from;
  const quoted = hosts.map((host) => `'${host}'`).join(",");
  const filled = text
    .replaceAll("$__rate_interval", range.rateInterval)
    .replaceAll("$__range_s", String(seconds))
    .replaceAll("$__range", `${seconds}s`)
    .replaceAll(/\$__timeFilter\((\w+)\)/g, `$1 >= toDateTime(${from}) AND $1 <= toDateTime(${to})`)
    .replaceAll(/\$__timeInterval\((\w+)\)/g, `toStartOfInterval(toDateTime($1), INTERVAL ${step} second)`)
    .replaceAll("$__interval_s", String(step))
    .replaceAll(`\${host:singlequote}`, quoted === "" ? "''" : quoted);
  const left = /\$\{?\w+/.exec(filled);
  if (left) throw new Error(`nothing is known of ${left[0]} in: ${text}`);
  return filled;
}
