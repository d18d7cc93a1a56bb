// As much of PromQL as it takes to say which metrics and labels an expression names. Whether it is a valid expression at
// all, promtool and Prometheus say.
import type { MetricFacts } from "./metrics-catalogue.ts";

export interface Selector {
  metric: string;
  /** Label, operator and value of each matcher. */
  matchers: readonly { label: string; operator: string; value: string }[];
  /** The function whose argument it is, directly. */
  within: string | undefined;
}

export interface Expression {
  selectors: readonly Selector[];
  /** Labels of by, without, on, ignoring, group_left and group_right. */
  grouping: readonly string[];
  functions: readonly string[];
}

type Catalogue = ReadonlyMap<string, MetricFacts>;

const TOKEN =
  /\s+|#[^\n]*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\d[\w.]*|[a-zA-Z_:][\w:]*|=~|!~|!=|==|>=|<=|[-+*/%^=<>(){}[\],@:]|./g;
const GROUPINGS = new Set(["by", "without", "on", "ignoring", "group_left", "group_right"]);
const WORDS = new Set(["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end", "atan2"]);
const AGGREGATIONS = new Set("sum min max avg group stddev stdvar count count_values bottomk topk quantile".split(" "));
/** Given by the scrape, not by the process. */
const TARGET_LABELS = new Set(["job", "instance", "namespace", "pod"]);
/** Metrics that Prometheus makes for each target. */
const OF_SCRAPE: Catalogue = new Map(
  ["up", "scrape_duration_seconds", "scrape_samples_scraped"].map((name) => [
    name,
    { name, type: "gauge", labels: [], help: "" },
  ]),
);
const OVER_COUNTERS = new Set(["rate", "irate", "increase", "resets"]);
const SUFFIXES: Readonly<Record<string, readonly string[]>> = { _bucket: ["le"], _sum: [], _count: [] };

/** Throws for a matcher list or a grouping that does not end. */
export function parseExpression(text: string): Expression {
  const tokens = (text.match(TOKEN) ?? []).filter((token) => !/^(\s|#)/.test(token));
  const selectors: Selector[] = [];
  const grouping: string[] = [];
  const functions: string[] = [];
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at] ?? "";
    const next = tokens[at + 1];
    // Ranges and steps: "[5m:1m]".
    if (token === "[") at = endOf(tokens, at, "]");
    else if (token === "{") throw new Error(`a selector without a metric's name: ${text}`);
    else if (!/^[a-zA-Z_:]/.test(token)) continue;
    else if (GROUPINGS.has(token) && (next === "(" || !token.startsWith("group_"))) {
      const end = endOf(tokens, at + 1, ")");
      grouping.push(...tokens.slice(at + 2, end).filter((each) => each !== ","));
      at = end;
    } else if (GROUPINGS.has(token) || WORDS.has(token.toLowerCase())) continue;
    else if (next === "(" || AGGREGATIONS.has(token)) functions.push(token);
    else {
      const end = next === "{" ? endOf(tokens, at + 1, "}") : at;
      const matchers = matchersOf(tokens.slice(at + 2, end));
      selectors.push({ metric: token, matchers, within: tokens[at - 1] === "(" ? tokens[at - 2] : undefined });
      at = end;
    }
  }
  return { selectors, grouping, functions };
}

function endOf(tokens: readonly string[], from: number, closing: string): number {
  const end = tokens.indexOf(closing, from);
  if (end < 0) throw new Error(`no ${closing} in ${tokens.join(" ")}`);
  return end;
}

function matchersOf(tokens: readonly string[]): Selector["matchers"] {
  const matchers: { label: string; operator: string; value: string }[] = [];
  for (let at = 0; at < tokens.length; at += 4) {
    const [label = "", operator = "", value = ""] = tokens.slice(at, at + 3);
    matchers.push({ label, operator, value: value.slice(1, -1) });
  }
  return matchers;
}

/** What is wrong with the names in an expression; `legend` is Grafana's, with {{label}} in it. */
export function expressionFaults(text: string, catalogue: Catalogue, legend = ""): string[] {
  const { selectors, grouping, functions } = parseExpression(text);
  if (selectors.length === 0) return [`${text}: names no metric`];
  const known = new Set(TARGET_LABELS);
  const faults: string[] = [];
  for (const { metric, matchers, within } of selectors) {
    const found = seriesOf(metric, catalogue);
    if (!found) {
      faults.push(`there is no metric ${metric}`);
      continue;
    }
    for (const label of found.labels) known.add(label);
    const own = new Set([...found.labels, ...TARGET_LABELS]);
    for (const { label } of matchers) if (!own.has(label)) faults.push(`${metric} has no label ${label}`);
    if (within && OVER_COUNTERS.has(within) && !found.counts) faults.push(`${within}(${metric}), which is no counter`);
  }
  if (faults.length > 0) return faults;
  const legends = [...legend.matchAll(/\{\{\s*(\w+)\s*\}\}/g)].map(([, label = ""]) => label);
  for (const label of [...grouping, ...legends])
    if (!known.has(label)) faults.push(`no metric here has label ${label}`);
  if (functions.includes("histogram_quantile") && !grouping.includes("le"))
    faults.push("histogram_quantile over series without le");
  return faults;
}

function seriesOf(name: string, catalogue: Catalogue): { labels: readonly string[]; counts: boolean } | undefined {
  const exact = catalogue.get(name) ?? OF_SCRAPE.get(name);
  // The name of a histogram alone is no series.
  if (exact) return exact.type === "histogram" ? undefined : { labels: exact.labels, counts: exact.type === "counter" };
  for (const [suffix, more] of Object.entries(SUFFIXES)) {
    const base = name.endsWith(suffix) ? catalogue.get(name.slice(0, -suffix.length)) : undefined;
    if (base?.type === "histogram") return { labels: [...base.labels, ...more], counts: true };
  }
  return undefined;
}

/** Values that an expression wants labels of ours to have, where it names them as words: a|b is two. */
export function wantedValues(text: string): string[] {
  const matchers = parseExpression(text).selectors.flatMap((selector) => selector.matchers);
  const ofOurs = matchers.filter(({ label }) => !TARGET_LABELS.has(label));
  return ofOurs.flatMap(({ value }) => value.split("|")).filter((value) => /^[a-z][a-z_.]*$/.test(value));
}
