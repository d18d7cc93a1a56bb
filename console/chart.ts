// Charts over time, by uPlot, which the page loads beside the modules. Colours come from the style sheet of the theme.
import type uPlotClass from "uplot";
import { compact, decimal, moment } from "./text.ts";

declare const uPlot: typeof uPlotClass;

export interface ChartSeries {
  label: string;
  /** One for each of the times; null: a gap. */
  values: (number | null)[];
}

export interface ChartData {
  /** Milliseconds. */
  times: number[];
  series: ChartSeries[];
  kind: "bars" | "lines";
  /** What the upright axis counts, such as "events an hour". */
  unit: string;
  /** For those who cannot see it. */
  summary: string;
}

export interface Chart {
  readonly element: HTMLElement;
  set(data: ChartData): void;
}

export const COLOURS = 11;

/** Name of the colour of a series, by its place; the last one is for what is left. */
export function colour(place: number): string {
  return `var(--c${Math.min(place, COLOURS - 1) + 1})`;
}

export function createChart(signal: AbortSignal, { isShort = false } = {}): Chart {
  const element = document.createElement("div");
  element.className = isShort ? "chart short" : "chart";
  element.setAttribute("role", "img");
  const plot = document.createElement("div");
  plot.className = "plot";
  const readout = document.createElement("div");
  readout.className = "readout";
  element.append(readout, plot);
  let drawn: uPlotClass | undefined;
  let data: ChartData | undefined;
  let shape = "";

  function draw(): void {
    if (!data || plot.clientWidth === 0) return;
    element.setAttribute("aria-label", data.summary);
    const values = [
      data.times.map((ms) => ms / 1000),
      ...data.series.map((series) => series.values),
    ] as uPlotClass.AlignedData;
    const next = `${data.kind} ${data.series.length} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
    if (drawn && next === shape) {
      drawn.setData(values);
      tell(drawn.cursor.idx);
      return;
    }
    shape = next;
    drawn?.destroy();
    drawn = new uPlot(
      optionsOf(data, plot, (place) => tell(place)),
      values,
      plot,
    );
    tell(undefined);
  }

  function tell(place: number | null | undefined): void {
    const at = place === null || place === undefined ? undefined : data?.times[place];
    if (at === undefined || place == null) {
      readout.textContent = data?.unit ?? "";
      return;
    }
    const sum = data?.series.reduce((total, { values }) => total + (values[place] ?? 0), 0) ?? 0;
    const isOne = data?.series.length === 1;
    readout.textContent = isOne || data?.kind === "bars" ? `${moment(at)} · ${decimal(sum)}` : moment(at);
  }

  const sizes = new ResizeObserver(() => {
    if (drawn) drawn.setSize({ width: plot.clientWidth, height: plot.clientHeight });
    else draw();
  });
  sizes.observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    drawn?.destroy();
  });
  return {
    element,
    set(next) {
      data = next;
      draw();
    },
  };
}

function optionsOf(
  data: ChartData,
  plot: HTMLElement,
  onPlace: (place: number | null | undefined) => void,
): uPlotClass.Options {
  const style = getComputedStyle(plot);
  const paint = (name: string) => resolved(plot, `var(${name})`);
  const axis = { stroke: paint("--dim"), ticks: { show: false }, font: `11px ${style.fontFamily}` };
  const bars = uPlot.paths.bars?.({ size: [0.8, 60, 1], align: 1 });
  return {
    width: plot.clientWidth,
    height: plot.clientHeight,
    legend: { show: false },
    padding: [8, 8, 0, 0],
    cursor: { y: false, points: { show: data.kind === "lines" }, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
    axes: [
      { ...axis, size: 26, grid: { show: false }, values: (_, ticks) => ticks.map(tickOf(ticks)), space: 70 },
      {
        ...{ ...axis, size: 46, grid: { stroke: paint("--line"), width: 1 } },
        values: (_, ticks) => ticks.map((tick) => compact(tick)),
      },
    ],
    series: [
      {},
      ...data.series.map(({ label }, place) => ({
        label,
        stroke: resolved(plot, colour(place)),
        width: 1.5,
        points: { show: data.times.length < 2 },
        ...(data.kind === "bars" && bars ? { paths: bars, fill: resolved(plot, colour(place)), width: 0 } : {}),
      })),
    ],
    hooks: { setCursor: [({ cursor }) => onPlace(cursor.idx)] },
  };
}

/** Times of day; days where the ticks are days. */
function tickOf(ticks: readonly number[]): (tick: number) => string {
  const step = ((ticks[1] ?? 0) - (ticks[0] ?? 0)) * 1000;
  const two = (value: number) => String(value).padStart(2, "0");
  return (tick) => {
    const date = new Date(tick * 1000);
    const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
    if (step >= 86_400_000 || isMidnight) return `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
    return `${two(date.getHours())}:${two(date.getMinutes())}${step < 60_000 && step > 0 ? `:${two(date.getSeconds())}` : ""}`;
  };
}

/** A canvas knows no variables. */
function resolved(within: HTMLElement, value: string): string {
  const probe = document.createElement("span");
  probe.style.color = value;
  within.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
