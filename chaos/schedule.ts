// Which faults, when, on what: decided by the seed alone, before anything is started.

import { createRandom, type Random } from "../test/kit/random.ts";
import { type FaultKind, KINDS, type KindSpec, kindsOf, type Lane } from "./kinds.ts";

export interface PlannedFault {
  /** Since the load began. */
  atMs: number;
  kind: FaultKind;
  target: string;
  /** How long it is held. */
  durationMs: number;
}

export interface PlanOptions {
  seed: number;
  minutes: number;
  /** Default 1. */
  brokers?: 1 | 3;
  /** Default: every kind for so many brokers; in a run of less than 5 minutes only the quick ones. */
  kinds?: readonly FaultKind[] | undefined;
}

/** A round has every kind once. Longer runs have several, shorter ones what fits. */
const ROUND_MINUTES = 5;
/** The consumers have their partitions and some rows are stored before the first fault. */
const WARMUP_MS = 3_000;
const GAP_MS = 1_000;
/** Refilling a topic takes as long as it took to fill, so it is wiped while it is small. */
const WIPE_SHARE = 0.3;
/** Share of a lane's time that faults may fill with repetitions of themselves. */
const BUSY_SHARE = 0.7;

/** In a short run a quick kind takes at most this share of it. */
const QUICK_SHARE = 0.2;

interface Draft extends Omit<PlannedFault, "atMs"> {
  /** Time it needs, its own overhead included. */
  costMs: number;
}

interface Interval {
  from: number;
  to: number;
  drafts: Draft[];
}

/**
 * Equal options give equal plans, ordered by time. From 5 minutes on every kind is in it; throws RangeError when that is
 * impossible. A shorter run takes what fits.
 */
export function planFaults({
  seed,
  minutes,
  brokers = 1,
  kinds = kindsFor(minutes, brokers),
}: PlanOptions): PlannedFault[] {
  const random = createRandom(seed);
  const rounds = Math.max(1, Math.floor(minutes / ROUND_MINUTES));
  const roundMs = (minutes * 60_000) / rounds;
  const isWhole = minutes >= ROUND_MINUTES;
  const plan: PlannedFault[] = [];
  for (let round = 0; round < rounds; round++) {
    const from = round * roundMs + (round === 0 ? WARMUP_MS : 0);
    plan.push(...planRound(random, kinds, { from, to: (round + 1) * roundMs, drafts: [] }, isWhole));
  }
  return plan.sort((a, b) => a.atMs - b.atMs || a.kind.localeCompare(b.kind));
}

function kindsFor(minutes: number, brokers: 1 | 3): readonly FaultKind[] {
  const kinds = kindsOf(brokers);
  if (minutes >= ROUND_MINUTES) return kinds;
  const costMsMax = minutes * 60_000 * QUICK_SHARE;
  return kinds.filter((kind) => KINDS[kind].holdMs[1] + KINDS[kind].overheadMs <= costMsMax);
}

function planRound(random: Random, kinds: readonly FaultKind[], whole: Interval, isWhole: boolean): PlannedFault[] {
  const drafts = random.shuffle(kinds).map((kind) => draft(random, kind));
  const alone = placeAlone(random, ofLane(drafts, "all"), whole, isWhole);
  const plan = [...alone];
  for (const lane of ["process", "link", "broker", "aside"] as const) {
    const own = ofLane(drafts, lane);
    if (own.length === 0) continue;
    // What runs aside is not in the way of what has the cluster to itself.
    const intervals = lane === "aside" ? [{ ...whole, drafts: [] }] : between(whole, alone);
    assign(random, own, intervals, isWhole);
    if (lane !== "aside") repeat(random, own, intervals);
    for (const interval of intervals) plan.push(...spread(random, interval));
  }
  return plan;
}

function draft(random: Random, kind: FaultKind): Draft {
  const { targets, holdMs, overheadMs }: KindSpec = KINDS[kind];
  const durationMs = random.integer(...holdMs);
  return { kind, target: random.pick(targets), durationMs, costMs: durationMs + overheadMs };
}

function ofLane(drafts: readonly Draft[], lane: Lane): Draft[] {
  return drafts.filter(({ kind }) => KINDS[kind].lane === lane);
}

function placeAlone(random: Random, drafts: readonly Draft[], whole: Interval, isWhole: boolean): PlannedFault[] {
  const placed: PlannedFault[] = [];
  for (const one of drafts.toSorted((a) => (a.kind === "wipe_topic" ? -1 : 1))) {
    const share = one.kind === "wipe_topic" ? WIPE_SHARE : 1;
    const fitting = between(whole, placed)
      .map(({ from, to }) => ({ from, to: Math.min(to, whole.from + (whole.to - whole.from) * share + one.costMs) }))
      .filter(({ from, to }) => to - from >= one.costMs + GAP_MS);
    if (fitting.length === 0) {
      refuseIf(isWhole, one.kind);
      continue;
    }
    const { from, to } = random.pick(fitting);
    placed.push(at(one, random.integer(from, Math.floor(to - one.costMs))));
  }
  return placed;
}

/** The time that is left between faults. */
function between(whole: Interval, placed: readonly PlannedFault[]): Interval[] {
  const intervals: Interval[] = [];
  let { from } = whole;
  for (const { atMs, durationMs, kind } of placed.toSorted((a, b) => a.atMs - b.atMs)) {
    intervals.push({ from, to: atMs, drafts: [] });
    from = atMs + durationMs + KINDS[kind].overheadMs + GAP_MS;
  }
  intervals.push({ from, to: whole.to, drafts: [] });
  return intervals;
}

function assign(random: Random, drafts: readonly Draft[], intervals: Interval[], isWhole: boolean): void {
  // The long ones first where all must fit; the short ones first where only some can.
  const ordered = drafts.toSorted((a, b) => (isWhole ? b.costMs - a.costMs : a.costMs - b.costMs));
  for (const one of ordered) {
    const fitting = intervals.filter((interval) => slackOf(interval) >= one.costMs + GAP_MS);
    if (fitting.length > 0) random.pick(fitting).drafts.push(one);
    else refuseIf(isWhole, one.kind);
  }
}

function repeat(random: Random, drafts: readonly Draft[], intervals: readonly Interval[]): void {
  for (const interval of intervals) {
    const quiet = (interval.to - interval.from) * (1 - BUSY_SHARE);
    for (;;) {
      const again = draft(random, random.pick(drafts).kind);
      if (slackOf(interval) - again.costMs - GAP_MS < quiet) break;
      interval.drafts.push(again);
    }
  }
}

function spread(random: Random, interval: Interval): PlannedFault[] {
  const { from, drafts } = interval;
  const cuts = drafts.map(() => random.next() * slackOf(interval)).sort((a, b) => a - b);
  let used = 0;
  return random.shuffle(drafts).map((one, i) => {
    const atMs = Math.round(from + used + (cuts[i] as number));
    used += one.costMs + GAP_MS;
    return at(one, atMs);
  });
}

function slackOf({ from, to, drafts }: Interval): number {
  return to - from - drafts.reduce((sum, { costMs }) => sum + costMs + GAP_MS, 0);
}

function at({ kind, target, durationMs }: Draft, atMs: number): PlannedFault {
  return { atMs, kind, target, durationMs };
}

function refuseIf(isWhole: boolean, kind: FaultKind): void {
  if (isWhole) throw new RangeError(`no room for ${kind} in ${ROUND_MINUTES} minutes`);
}
