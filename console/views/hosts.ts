// Hosts: what agents and values of events measure, and alerts with their state and history.
import { html, nothing } from "lit-html";
import { call } from "../api.ts";
import { colour, createChart } from "../chart.ts";
import type { Alerts, SeriesAnswer, Transitions } from "../messages.ts";
import {
  card,
  empty,
  foreign,
  loaded,
  type Piece,
  RANGES,
  type RangeName,
  rangeName,
  rangeOf,
  rangePicker,
} from "../parts.ts";
import { ago, count, decimal, moment, nowMs, seconds, shown, span } from "../text.ts";
import { drawer, reading, type View } from "../view.ts";

const AGAIN_MS = 15_000;
const SERIES_MAX = 10;
const CHANGES_MAX = 100;
/** The gravest last. */
const LEVELS = ["ok", "info", "warn", "crit"];
/** Multiples of five minutes: the roll-up has them for every range. */
const STEPS: Record<RangeName, number> = { "1h": 300, "24h": 900, "7d": 3_600, "30d": 14_400 };
const OPERATORS: Readonly<Record<string, string>> = { GT: ">", GE: "≥", LT: "<", LE: "≤", EQ: "=", NE: "≠" };

export const hostsView: View = (host) => {
  let range = rangeName(host.params.get("range"));
  let metric = host.params.get("metric") ?? "";
  const draw = drawer(host, template);
  const chart = createChart(host.signal);
  const metrics = reading(host, draw, async (signal) => {
    const { metrics: found = [] } = await call<{ metrics?: string[] }>("StatsService/ListMetrics", {}, signal);
    if (metric === "" && found[0] !== undefined) {
      metric = found.find((name) => /cpu/i.test(name)) ?? found[0];
      series.read();
    }
    return found;
  });
  const series = reading(
    host,
    draw,
    async (signal) => {
      const asked = { metric, groupBy: ["host"], ...rangeOf(range), interval: `${STEPS[range]}s` };
      const answer = await call<SeriesAnswer>("StatsService/QuerySeries", asked, signal);
      chart.set(chartOf(answer));
      return answer;
    },
    { everyMs: AGAIN_MS },
  );
  const alerts = reading(host, draw, (signal) => call<Alerts>("AlertService/ListAlerts", {}, signal), {
    everyMs: AGAIN_MS,
  });
  const history = reading(
    host,
    draw,
    (signal) => call<Transitions>("AlertService/ListTransitions", { pageSize: CHANGES_MAX }, signal),
    { everyMs: AGAIN_MS },
  );

  function chartOf({ series: found = [] }: SeriesAnswer) {
    const step = STEPS[range] * 1000;
    const to = Math.floor(nowMs() / step) * step;
    const from = to - Math.ceil(RANGES[range] / step) * step;
    const times = Array.from({ length: (to - from) / step + 1 }, (_, i) => from + i * step);
    const lines = found.slice(0, SERIES_MAX).map(({ tags = {}, windows = [] }) => {
      const at = new Map(windows.map(({ time, values = [] }) => [Date.parse(time), Number(values[0] ?? 0)]));
      return { label: hostOf(tags), values: times.map((time) => at.get(time) ?? null) };
    });
    return {
      times,
      series: lines,
      kind: "lines" as const,
      unit: shown(metric, 80),
      summary: `${shown(metric)} of ${found.length} hosts`,
    };
  }
  function hostOf(tags: Record<string, string>): string {
    return new Map(Object.entries(tags)).get("host") || "without a host";
  }
  function remember(): void {
    host.replace({ metric, range: range === "24h" ? "" : range });
  }
  function pick(name: string): void {
    metric = name;
    remember();
    series.restart();
  }
  function setRange(next: RangeName): void {
    range = next;
    remember();
    series.restart();
  }

  function measured(found: readonly string[]): Piece {
    if (found.length === 0) {
      return empty(
        "No host reports yet",
        html`Run <code>millrace agent --server ${location.hostname}:3001</code> on a host, or send events with a value.`,
      );
    }
    return html`<ul class="plain scroll picks">
      ${found.map((name) => html`<li><button class="row" aria-pressed=${name === metric} @click=${() => pick(name)}>${foreign(name, 80)}</button></li>`)}
    </ul>`;
  }

  function lines({ series: found = [] }: SeriesAnswer): Piece {
    if (found.length === 0) return empty("Nothing was measured in this time");
    return html`${chart.element}
      <ul class="legend">
        ${found.slice(0, SERIES_MAX).map(({ tags = {}, windows = [] }, place) => {
          const last = windows.at(-1)?.values?.[0];
          return html`<li><span class="swatch" .style=${`background: ${colour(place)}`}></span>${foreign(hostOf(tags), 60)}
            <span class="dim">${last === undefined ? nothing : decimal(Number(last))}</span></li>`;
        })}
        ${found.length > SERIES_MAX ? html`<li class="dim">and ${found.length - SERIES_MAX} more</li>` : nothing}
      </ul>`;
  }

  function alertTable({ alerts: found = [] }: Alerts): Piece {
    if (found.length === 0)
      return empty("No alerts", html`Make one with <code>POST /alerts</code> on this port: docs/alerts.md.`);
    const stateOf = statesOf(history.state.value);
    return html`<table class="table"><thead><tr><th>State</th><th>Alert</th><th>Over</th></tr></thead><tbody>
      ${found.map(({ id, definition = {} }) => {
        const operator = OPERATORS[(definition.operator ?? "").replace("ALERT_OPERATOR_", "")] ?? ">";
        return html`<tr><td>${levelBadge(stateOf(id))}</td>
          <td>${foreign(definition.metric ?? "", 80)} ${operator} ${decimal(Number(definition.threshold ?? 0))}</td><td class="dim">${span(seconds(definition.duration))}</td></tr>`;
      })}
    </tbody></table>`;
  }

  function historyTable({ transitions = [] }: Transitions): Piece {
    if (transitions.length === 0) return empty("No alert has changed its state yet");
    return html`<div class="scroll" tabindex="0" role="region" aria-label="History of alerts"><table class="table"><thead><tr><th>Time</th><th>State</th><th>Metric</th><th class="num">Mean</th><th>Told</th></tr></thead><tbody>
      ${transitions.map(
        ({ time, level = "", metric: of = "", group = {}, value, delivery = {} }) =>
          html`<tr><td class="dim" title=${ago(time)}>${time === undefined ? "" : moment(time)}</td><td>${levelBadge(levelName(level))}</td>
            <td>${foreign(of, 60)} ${Object.entries(group).map(([tag, of_]) => html`<small class="dim">${foreign(tag, 30)}=${foreign(of_, 60)}</small> `)}</td>
            <td class="num">${value === undefined ? "–" : decimal(Number(value))}</td>
            <td class="dim">${(delivery.state ?? "").replace("STATE_", "").toLowerCase()}</td></tr>`,
      )}
    </tbody></table></div>`;
  }

  function template(): Piece {
    return html`<div class="toolbar">${rangePicker(range, setRange)}</div>
      <div class="grid">
        <div class="w4">${card("Metrics", loaded(metrics.state, metrics.read, measured), metrics.state.value ? count(metrics.state.value.length) : nothing)}</div>
        <div class="w8 stack">
          ${metric === "" ? nothing : card(shown(metric, 80), loaded(series.state, series.restart, lines), "mean by host")}
          ${card("Alerts", loaded(alerts.state, alerts.restart, alertTable))}
          ${card("History of alerts", loaded(history.state, history.restart, historyTable))}
        </div>
      </div>`;
  }

  draw();
  for (const each of [metrics, alerts, history]) each.read();
  if (metric !== "") series.read();
};

/** Of each alert the gravest of its groups' levels; undefined: not known from these changes. */
function statesOf(history: Transitions | undefined): (alertId: string) => string | undefined {
  const transitions = history?.transitions ?? [];
  const seen = new Set<string>();
  const levels = new Map<string, string>();
  // Newest first: the first of an alert and group is its state.
  for (const { alertId = "", level = "", group = {} } of transitions) {
    const key = JSON.stringify([alertId, Object.entries(group).sort()]);
    if (seen.has(key)) continue;
    seen.add(key);
    const name = levelName(level);
    if (LEVELS.indexOf(name) >= LEVELS.indexOf(levels.get(alertId) ?? "ok")) levels.set(alertId, name);
  }
  // What has never changed is well.
  const isWhole = history !== undefined && transitions.length < CHANGES_MAX;
  return (alertId) => levels.get(alertId) ?? (isWhole ? "ok" : undefined);
}

function levelName(level: string): string {
  return level.replace("ALERT_LEVEL_", "").toLowerCase();
}

function levelBadge(name: string | undefined): Piece {
  if (name === undefined)
    return html`<span class="dim" title=${`None of the newest ${CHANGES_MAX} changes is of this alert`}>–</span>`;
  const tone = { crit: "bad", warn: "warn", info: "" }[name] ?? "good";
  return html`<span class="badge ${tone}">${name}</span>`;
}
