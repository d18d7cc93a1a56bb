// A trend broken down by a property: the values' shares in a sample, of what came in each window.
import { type BlockSample, blockSampleOf, IN_SAMPLE, type SampleBounds } from "#lib/warehouse/block-sample.ts";
import type { Runner } from "../queries/run.ts";
import { createBinder } from "../queries/sql.ts";
import { spread, sum, windowCountsSql, windowSql } from "./counts.ts";
import { eventSql, rangeSql } from "./fields.ts";
import type { TrendQuery, TrendSeries } from "./trends.ts";

/** Events of one name and window that were looked at, of the value of a rank. */
interface Cell {
  rank: number;
  value: string;
  /** Hash of the name; "0" where names are not told apart. */
  name: string;
  window: number;
  n: number;
}

const SERIES_MAX = 10;
/** A breakdown reads properties, which are most of what is stored. */
const SAMPLE: SampleBounds = { blocks: 25, rows: 20_000 };
const SAMPLE_OF_ALL: SampleBounds = { blocks: 30, rows: 30_000 };
/** What all other names make up is in the rest. */
const NAMES_MAX = 50;
/** Of a name and window, to stand for them: otherwise the name's events of all windows do. */
const ENOUGH = 20;
const VALUE_CHARS_MAX = 200;

/**
 * `all` is how many came in each window. Blocks of the table have one name each or a few, so of all names each is estimated
 * from its own events. What the sample does not reach is in the rest.
 */
export async function readBreakdown(
  runner: Runner,
  trend: TrendQuery,
  all: readonly number[],
): Promise<{ series: TrendSeries[]; every: number }> {
  const sample = blockSampleOf(sum(all), trend.sample ?? (trend.event === "" ? SAMPLE_OF_ALL : SAMPLE));
  const every = sample.everyBlock * sample.everyRow;
  const isByName = trend.event === "" && every > 1;
  const cells = await sampleCells(runner, trend, sample, isByName);
  const strata = isByName ? await countsByName(runner, trend, namesOf(cells), all.length) : new Map([["0", all]]);
  const shown = new Map(cells.filter(({ rank }) => rank <= SERIES_MAX).map(({ rank, value }) => [rank, value]));
  const shares = sharesOf(cells, strata, { windows: all.length, isByName });
  const series = [...shown].map(([rank, value]): TrendSeries => {
    const counts = shares.get(rank)?.map(Math.round) ?? all.map(() => 0);
    return { value, isRest: false, total: sum(counts), counts };
  });
  const reached = all.map((_, w) => sum([...shares.values()].map((counts) => counts[w] ?? 0)));
  const hasRest = shares.has(SERIES_MAX + 1) || all.some((n, w) => n - (reached[w] ?? 0) > 0.5);
  if (!hasRest) return { series, every };
  const rest = all.map((n, w) => Math.max(0, n - sum(series.map(({ counts }) => counts[w] ?? 0))));
  return { series: [...series, { value: "", isRest: true, total: sum(rest), counts: rest }], every };
}

/** In the order of the ranks. */
async function sampleCells(
  runner: Runner,
  { range, event, stepMs, breakdown, signal }: TrendQuery,
  sample: BlockSample,
  isByName: boolean,
): Promise<Cell[]> {
  const bind = createBinder();
  const raw = `JSONExtractRaw(properties, ${bind.text(breakdown)})`;
  const values = `SELECT leftUTF8(if(startsWith(raw, '"'), JSONExtractString(raw), raw), ${VALUE_CHARS_MAX}) AS v, name, w, count() AS n
    FROM (SELECT ${windowSql("timestamp", range, stepMs, bind)} AS w, ${isByName ? "cityHash64(event)" : "0"} AS name, ${raw} AS raw
      FROM events_raw PREWHERE ${IN_SAMPLE} AND ${rangeSql(range, bind)} ${eventSql(event, bind)})
    GROUP BY v, name, w`;
  // The last rank is everything else that was looked at.
  const sql = `SELECT any(v) AS value, toUInt32(r) AS rank, toString(name) AS name, toString(w) AS place, toString(sum(n)) AS count
    FROM (SELECT v, name, w, n, least(dense_rank() OVER (ORDER BY total DESC, v), ${SERIES_MAX + 1}) AS r
      FROM (SELECT v, name, w, n, sum(n) OVER (PARTITION BY v) AS total FROM (${values})))
    GROUP BY r, name, w ORDER BY r`;
  type Row = { value: string; rank: number; name: string; place: string; count: string };
  const rows = await runner.query<Row>({
    ...{ name: "trend_values", sql, signal },
    params: { ...bind.params, ...sample },
  });
  return rows.map(({ value, rank, name, place, count }) => {
    return { value, rank, name, window: Number(place), n: Number(count) };
  });
}

/** Names with most events in the sample. */
function namesOf(cells: readonly Cell[]): string[] {
  const looked = new Map<string, number>();
  for (const { name, n } of cells) looked.set(name, (looked.get(name) ?? 0) + n);
  return [...looked]
    .sort(([, a], [, b]) => b - a)
    .slice(0, NAMES_MAX)
    .map(([name]) => name);
}

async function countsByName({ query }: Runner, trend: TrendQuery, names: readonly string[], windows: number) {
  const bind = createBinder();
  const isAsked = `AND cityHash64(event) IN (SELECT toUInt64(arrayJoin(${bind.texts(names)})))`;
  const counts = windowCountsSql((window) => `(cityHash64(event), ${window})`, trend, isAsked, bind);
  const sql = `SELECT toString(key.1) AS name, groupArray(toString(key.2)) AS places, groupArray(toString(c)) AS counts
    FROM (SELECT key, sum(n) AS c FROM (${counts}) GROUP BY key) GROUP BY key.1`;
  type Row = { name: string; places: string[]; counts: string[] };
  const rows = await query<Row>({ name: "trend_names", sql, params: bind.params, signal: trend.signal });
  return new Map(
    rows.map(({ name, places, counts: ns }) => [
      name,
      spread(
        places.map((place, i) => [place, ns[i] ?? "0"]),
        windows,
      ),
    ]),
  );
}

type Looked = Pick<Cell, "rank" | "n">;

/** By rank, then by window: what is to be expected of the counts. */
export function sharesOf(
  cells: readonly Cell[],
  strata: ReadonlyMap<string, readonly number[]>,
  { windows, isByName }: { windows: number; isByName: boolean },
): Map<number, number[]> {
  const shares = new Map<number, number[]>();
  const ofNames = Map.groupBy(cells, ({ name }) => name);
  for (const [name, counts] of strata) {
    const own = ofNames.get(name) ?? [];
    const ofName = byRank(own);
    const ofWindows = Map.groupBy(own, ({ window }) => window);
    for (const [window, n] of counts.entries()) {
      if (n === 0) continue;
      const here: readonly Looked[] = ofWindows.get(window) ?? [];
      const isEnough = !isByName || lookedAt(here) >= ENOUGH;
      const seen = isEnough ? here : ofName;
      const looked = lookedAt(seen);
      for (const cell of seen) {
        const series = shares.get(cell.rank) ?? new Array<number>(windows).fill(0);
        series[window] = (series[window] ?? 0) + (n * cell.n) / looked;
        shares.set(cell.rank, series);
      }
    }
  }
  return shares;
}

/** One of each rank: they stand for every window that has too few, and a name can have tens of thousands of cells. */
function byRank(cells: readonly Cell[]): Looked[] {
  return [...Map.groupBy(cells, ({ rank }) => rank)].map(([rank, ofRank]) => ({ rank, n: lookedAt(ofRank) }));
}

function lookedAt(cells: readonly Looked[]): number {
  return sum(cells.map(({ n }) => n));
}
