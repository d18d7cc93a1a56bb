// The trend of an event's name as a chart, with a legend when it is broken down.
import { html, nothing } from "lit-html";
import { type Chart, colour } from "./chart.ts";
import type { Trend } from "./messages.ts";
import { foreign, type Piece } from "./parts.ts";
import { count, nowMs } from "./text.ts";

export function setTrend(chart: Chart, trend: Trend, what: string): void {
  const times = (trend.times ?? []).map((time) => Date.parse(time));
  const step = (times[1] ?? 0) - (times[0] ?? 0);
  // The window under way would look like a fall.
  const isOpen = times.length > 2 && (times.at(-1) ?? 0) + step > nowMs();
  const series = (trend.series ?? []).map(({ value = "", isRest, counts = [] }) => {
    const values: (number | null)[] = counts.map(Number);
    if (isOpen && (trend.series ?? []).length > 1) values[values.length - 1] = null;
    return { label: isRest ? "everything else" : value, values };
  });
  const total = totalOf(trend);
  const kind = series.length > 1 ? "lines" : "bars";
  chart.set({
    times,
    series,
    kind,
    unit: `Events ${{ minute: "a minute", hour: "an hour", day: "a day" }[unitOf(trend)] ?? ""}`,
    summary: `${what}: ${count(total)} in ${times.length} windows of one ${unitOf(trend)}`,
  });
}

export function totalOf({ series = [] }: Trend): number {
  return series.reduce((sum, { total = "0" }) => sum + Number(total), 0);
}

export function unitOf({ interval = "" }: Trend): string {
  return interval.replace("TREND_INTERVAL_", "").toLowerCase();
}

export function legend({ series = [], sampledOneIn = 1 }: Trend): Piece {
  if (series.length === 1 && (series[0]?.value ?? "") === "" && sampledOneIn <= 1) return nothing;
  return html`<ul class="legend">
    ${series.map(
      ({ value = "", isRest, total = "0" }, place) =>
        html`<li>
          <span class="swatch" .style=${`background: ${colour(isRest ? 10 : place)}`}></span
          >${isRest ? html`<em>everything else</em>` : value === "" ? html`<em>without it</em>` : foreign(value, 60)}
          <span class="dim">${count(total)}</span>
        </li>`,
    )}
    ${sampledOneIn > 1 ? html`<li class="dim">Estimated from one event in ${sampledOneIn}</li>` : nothing}
  </ul>`;
}
