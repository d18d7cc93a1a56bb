// The dashboards of grafana/: every metric and label that they name is one of the catalogue, every query of ClickHouse is
// one that the tables answer. `npm run check:dashboards` asks a real Prometheus as well, under load.
import { describe, expect, it } from "vitest";
import { startTestClickHouse } from "../kit/clickhouse.ts";
import { type Dashboard, interpolate, panelsOf, type Query, queriesOf, readDashboards } from "../kit/dashboards.ts";
import { documentedMetrics } from "../kit/metrics-catalogue.ts";
import { expressionFaults, wantedValues } from "../kit/promql.ts";
import { quotedWords } from "../kit/quoted-words.ts";

const catalogue = documentedMetrics();
const dashboards = readDashboards();
const queries = [...dashboards].flatMap(([file, dashboard]) => queriesOf(file, dashboard));
const RANGE = { from: 1_790_000_000, to: 1_790_003_600, step: 15, rateInterval: "1m" };

function metricFaults({ dashboard, panel, text, legend }: Query): string[] {
  const faults = expressionFaults(interpolate({ text }, RANGE), catalogue, legend);
  return faults.map((fault) => `${dashboard}, "${panel}": ${fault}`);
}

/** Panels on top of each other, ids that are no ids, and dashboards that nobody could find. */
function layoutFaults(file: string, dashboard: Dashboard): string[] {
  const all = [...dashboard.panels, ...panelsOf(dashboard)].filter((panel, at, list) => list.indexOf(panel) === at);
  const taken = new Map<string, string>();
  const faults: string[] = [];
  for (const { title, gridPos } of all) {
    if (gridPos.x + gridPos.w > 24) faults.push(`${file}: "${title}" is wider than the page`);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        const other = taken.get(`${x} ${y}`);
        if (other !== undefined) return [...faults, `${file}: "${title}" covers "${other}"`];
        taken.set(`${x} ${y}`, title);
      }
  }
  const ids = all.map(({ id }) => id);
  if (new Set(ids).size < ids.length) faults.push(`${file}: two panels have one id`);
  const untold = panelsOf(dashboard).filter(({ description }) => !description);
  return [...faults, ...untold.map(({ title }) => `${file}: "${title}" does not say what it shows`)];
}

describe("dashboards", () => {
  it("are three, each with a uid and a title of its own", () => {
    expect([...dashboards.keys()]).toEqual(["consumer.json", "hosts.json", "overview.json"]);
    const all = [...dashboards.values()];
    expect(new Set(all.map(({ uid }) => uid)).size).toBe(all.length);
    expect(new Set(all.map(({ title }) => title)).size).toBe(all.length);
  });

  it("the overview asks an operator's questions, in the order in which they come up", () => {
    const rows = dashboards.get("overview.json")?.panels.filter(({ type }) => type === "row");
    expect(rows?.map(({ title }) => title)).toEqual([
      "Is it receiving?",
      "Is it slow?",
      "Is it landing?",
      "How far behind?",
      "What is rejected, and why?",
      "Is ClickHouse healthy?",
    ]);
  });

  it("name only metrics and labels of the catalogue", () => {
    const ours = queries.filter(({ language }) => language === "promql");
    expect(ours.length).toBeGreaterThan(40);
    expect(ours.flatMap(metricFaults)).toEqual([]);
  });

  it("ask labels only for values that are in the code", () => {
    const words = quotedWords();
    const wanted = queries.filter(({ language }) => language === "promql").flatMap(({ text }) => wantedValues(text));
    expect(wanted.length).toBeGreaterThan(0);
    expect(wanted.filter((value) => !words.has(value))).toEqual([]);
  });

  it("have panels beside each other that say what they show", () => {
    expect([...dashboards].flatMap(([file, dashboard]) => layoutFaults(file, dashboard))).toEqual([]);
  });

  it("ask ClickHouse for what its tables have", async () => {
    await using clickhouse = await startTestClickHouse();
    await clickhouse.migrate("panels");
    const ask = async (sql: string) => {
      const answer = await fetch(`${clickhouse.url}/?database=panels`, { method: "POST", body: sql });
      return answer.ok ? "" : (await answer.text()).slice(0, 300);
    };
    const ours = queries.filter(({ language }) => language === "sql");
    expect(ours.length).toBeGreaterThan(10);
    for (const query of ours)
      expect(await ask(interpolate(query, RANGE, ["a"])), `${query.dashboard}, ${query.panel}`).toBe("");
    expect(await ask("SELECT no_such_column FROM events_raw")).toContain("no_such_column");
  });
});

describe("a fault in a dashboard is found:", () => {
  it.each([
    ["a misspelt metric", "rate(millrace_row_stored_total[5m])", "there is no metric millrace_row_stored_total"],
    ["a histogram without its suffix", "millrace_insert_seconds", "there is no metric millrace_insert_seconds"],
    ["a misspelt label", 'millrace_lag_seconds{topics="a"}', "millrace_lag_seconds has no label topics"],
    ["a label of another metric", "sum by (kind) (millrace_lag_seconds)", "no metric here has label kind"],
    ["the rate of a gauge", "rate(millrace_lag_seconds[5m])", "rate(millrace_lag_seconds), which is no counter"],
    [
      "a quantile without buckets",
      "histogram_quantile(0.9, sum(rate(millrace_insert_seconds_bucket[5m])))",
      "histogram_quantile over series without le",
    ],
    ["a misspelt metric in a comparison", "1 > bool millrace_lag", "there is no metric millrace_lag"],
    ["nothing asked", "1 + 1", "1 + 1: names no metric"],
  ])("%s", (_, text, fault) => {
    expect(expressionFaults(text, catalogue)).toEqual([fault]);
  });

  it("a legend with a label that the query has summed away is not, one that no metric has is", () => {
    expect(expressionFaults("millrace_lag_seconds", catalogue, "{{topic}} {{ partition }}")).toEqual([]);
    expect(expressionFaults("millrace_lag_seconds", catalogue, "{{tpoic}}")).toEqual([
      "no metric here has label tpoic",
    ]);
  });

  it("a data source that is not provisioned, a panel that asks nothing, an unknown macro", () => {
    const panel = { id: 1, title: "p", type: "stat", gridPos: { x: 0, y: 0, w: 1, h: 1 } };
    const dashboard = (extra: object) => ({ uid: "u", title: "t", panels: [{ ...panel, ...extra }] });
    const foreign = { datasource: { type: "prometheus", uid: "abc" }, targets: [{ expr: "up" }] };
    expect(() => queriesOf("x.json", dashboard(foreign))).toThrow("not provisioned");
    expect(() => queriesOf("x.json", dashboard({}))).toThrow("asks nothing");
    expect(() => interpolate({ text: "SELECT $__timeFilters(a)" }, RANGE)).toThrow("nothing is known of $__timeFilter");
  });

  it("panels that cover each other", () => {
    const at = (id: number, x: number) => ({
      ...{ id, title: `p${id}`, type: "stat", description: "d", gridPos: { x, y: 0, w: 4, h: 4 } },
    });
    const dashboard = { uid: "u", title: "t", panels: [at(1, 0), at(2, 3)] };
    expect(layoutFaults("x.json", dashboard)).toEqual(['x.json: "p2" covers "p1"']);
  });
});

describe("the reader of PromQL", () => {
  it.each([
    ["up", ["up"]],
    ["sum by (a, b) (rate(x_total{c=\"} y{\", d!~'e'}[5m:1m] offset 1h))", ["x_total"]],
    ["x * on (a) group_left (b) y unless ignoring (c) z", ["x", "y", "z"]],
    ["sum(x) by (le) / ignoring(a) group_right y", ["x", "y"]],
    ["topk(3, x) or vector(0) # y", ["x"]],
    ["-x ^ 2e3 >= bool inf and y", ["x", "y"]],
    ["quantile_over_time(0.9, a:b:c[1h])", ["a:b:c"]],
  ])("finds the metrics of %j", (text, metrics) => {
    const own = new Map(metrics.map((name) => [name, { name, type: "gauge", labels: [], help: "" }]));
    const unknown = expressionFaults(text, own).filter((fault) => fault.startsWith("there is no metric"));
    expect(unknown).toEqual([]);
    const none = expressionFaults(text, new Map()).filter((fault) => fault.startsWith("there is no metric"));
    expect(none).toEqual(metrics.filter((name) => name !== "up").map((name) => `there is no metric ${name}`));
  });
});
