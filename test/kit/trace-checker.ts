// What was acknowledged against what is stored at the end: the judgement behind every audit of the tests, pure, so that it
// can be shown to find what it looks for.

interface TracePosition {
  partition: number;
  offset: number;
}

export interface AckedRecord extends TracePosition {
  /** The caller's own id, with whatever scopes it; absent when the gateway made it, so that it names one record only. */
  id?: string | undefined;
}

export interface TraceRow extends AckedRecord {
  epoch: string;
}

export interface TraceOutcome extends TracePosition {
  epoch: string;
  /** duplicate, conflict, dead_letter or erased. */
  outcome: string;
  /** Of a duplicate or conflict: "partition:offset" of the row it repeats, after the epoch and a colon when that is another one. */
  detail: string;
}

export interface Trace {
  epoch: string;
  /** Every record the log took, each offset once. */
  acked: readonly AckedRecord[];
  rows: readonly TraceRow[];
  outcomes: readonly TraceOutcome[];
  /** Positions whose bytes are kept as dead letters. */
  letters: readonly TracePosition[];
}

/** Positions are "partition:offset". All lists are empty when each event is stored exactly once. */
export interface Verdict {
  /** Events of which nothing is left, by their callers' ids or else by position: no row, no dead letter, not erased. */
  lost: string[];
  /** Positions that are neither a row nor an outcome. */
  unaccounted: string[];
  /** Positions that are more than one of them. */
  doubled: string[];
  /** Callers' ids with more than one row. */
  doubledIds: string[];
  /** What is stored and was never acknowledged; with the epoch in front when it is not the trace's. */
  foreign: string[];
  /** Duplicates of no row, or of one that came after them in their own partition. */
  disordered: string[];
  /** Positions of dead_letter outcomes without exactly one copy of the bytes. */
  lostLetters: string[];
}

/** Says what is wrong with the trace, each fault by name. */
export function checkTrace(trace: Trace): Verdict {
  const stored = [...trace.rows.map((row) => ({ ...row, outcome: "row" })), ...trace.outcomes];
  const own = stored.filter(({ epoch }) => epoch === trace.epoch);
  const fates = groupBy(own, placeOf, ({ outcome }) => outcome);
  const places = new Set(trace.acked.map(placeOf));
  const rowsOfId = groupBy(trace.rows, ({ id }) => id, placeOf);
  const copies = groupBy(trace.letters, placeOf, placeOf);
  return {
    lost: lostEvents(trace.acked, fates, rowsOfId),
    unaccounted: [...places].filter((place) => !fates.has(place)),
    doubled: [...fates].filter(([, all]) => all.length > 1).map(([place]) => place),
    doubledIds: [...rowsOfId].filter(([, rows]) => rows.length > 1).map(([id]) => id),
    foreign: [
      ...stored.filter(({ epoch }) => epoch !== trace.epoch).map((one) => `${one.epoch}:${placeOf(one)}`),
      ...[...fates.keys()].filter((place) => !places.has(place)),
    ],
    disordered: trace.outcomes.filter((one) => isDisordered(one, trace.epoch, fates)).map(placeOf),
    lostLetters: trace.outcomes
      .filter(({ outcome }) => outcome === "dead_letter")
      .map(placeOf)
      .filter((place) => copies.get(place)?.length !== 1),
  };
}

/** A retry is no event of its own: what counts is that one record of the id is kept. */
function lostEvents(
  acked: readonly AckedRecord[],
  fates: ReadonlyMap<string, string[]>,
  rowsOfId: ReadonlyMap<string, string[]>,
): string[] {
  const isKept = (place: string) =>
    fates.get(place)?.some((fate) => fate !== "duplicate" && fate !== "conflict") ?? false;
  const placesOfId = groupBy(acked, ({ id }) => id, placeOf);
  const lostIds = [...placesOfId].filter(([id, places]) => !rowsOfId.has(id) && !places.some(isKept)).map(([id]) => id);
  const nameless = acked.filter(({ id }) => id === undefined).map(placeOf);
  return [...lostIds, ...nameless.filter((place) => !fates.has(place))];
}

function isDisordered(
  { partition, offset, outcome, detail }: TraceOutcome,
  epoch: string,
  fates: ReadonlyMap<string, string[]>,
): boolean {
  if (outcome !== "duplicate" && outcome !== "conflict") return false;
  const [, of, partitionOf, offsetOf] = /^(?:(.*):)?(\d+):(\d+)$/s.exec(detail) ?? [];
  // A row of another epoch is not in the trace.
  if (of !== undefined && of !== epoch) return false;
  const isThere = fates.get(`${partitionOf}:${offsetOf}`)?.some((fate) => fate === "row" || fate === "erased") ?? false;
  return !isThere || (Number(partitionOf) === partition && Number(offsetOf) >= offset);
}

function placeOf({ partition, offset }: TracePosition): string {
  return `${partition}:${offset}`;
}

/** By key; what has none is left out. */
function groupBy<T, V>(
  all: readonly T[],
  keyOf: (one: T) => string | undefined,
  pick: (one: T) => V,
): Map<string, V[]> {
  const groups = new Map<string, V[]>();
  for (const one of all) {
    const key = keyOf(one);
    if (key === undefined) continue;
    const group = groups.get(key);
    if (group) group.push(pick(one));
    else groups.set(key, [pick(one)]);
  }
  return groups;
}
