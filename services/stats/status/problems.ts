// What is wrong, as sentences: what it means for events, and what to do. A pure function of what was measured.
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { TopicFlow } from "./flow.ts";

export type Severity = "notice" | "delay" | "loss";

export interface Problem {
  name: string;
  severity: Severity;
  text: string;
  remedy: string;
  sinceMs: number;
}

export interface Facts {
  nowMs: number;
  flows: readonly TopicFlow[];
  /** What the log is on: "kafka" or "sqlite". */
  logSystem: string;
  /** When the log took the newest row, by topic. */
  newestRowMs: ReadonlyMap<string, number>;
  /** Why a part does not answer, and since when; absent: it does. */
  logAway?: Away | undefined;
  clickhouseAway?: Away | undefined;
  /** What the consumer says of itself, where it is in this process. */
  consumerFault?: string | undefined;
  /** Since when log and ClickHouse answer again and have room; absent: they have since the first look. */
  backMs?: number | undefined;
  disks: readonly Disk[];
  /** The last run of `millrace verify`. */
  verify?: { atMs: number; isSound: boolean; missing: number; doubled: number } | undefined;
  letters?: { lastHour: number; newestClass: string; newestMs: number } | undefined;
}

export interface Away {
  sinceMs: number;
  why: string;
}

export interface Disk {
  /** "log", or "clickhouse:" and ClickHouse's own name of it. */
  name: string;
  free: number;
  total: number;
  /** Since when it is full; absent: it is not. */
  fullSinceMs?: number | undefined;
}

type FullDisk = Disk & { fullSinceMs: number };

/**
 * A consumer that has not moved for so long, and for its batches' wait, while records wait, has stopped. Short enough for
 * whoever looks every three seconds to be told within ten.
 */
const STUCK_MS = 6_000;
/** Fresh enough: beyond it somebody is told. */
const BEHIND_MS = 60_000;
const DISK_FREE_SHARE_MIN = 0.05;
const DISK_FREE_BYTES_MIN = 200_000_000;
/** With less, ClickHouse reserves no room for a part. */
const DISK_FULL_BYTES = 16_000_000;
export const LOG_DISK = "log";
const ORDER: readonly Severity[] = ["loss", "delay", "notice"];

export function hasNoRoom({ free }: Pick<Disk, "free">): boolean {
  return free < DISK_FULL_BYTES;
}

function isFull(disk: Disk): disk is FullDisk {
  return disk.fullSinceMs !== undefined;
}

/** The gravest first. */
export function problemsOf(facts: Facts): Problem[] {
  const found = [
    logAway(facts),
    clickhouseAway(facts),
    ...facts.flows.map((flow) => flowProblem(facts, flow)),
    ...disks(facts),
    letters(facts),
    verified(facts),
  ];
  return found
    .filter((problem) => problem !== undefined)
    .sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
}

/** Why a record of this topic waits, as a sentence. */
export function whyWaiting(facts: Facts | undefined, topic: string, partition: number): string {
  if (!facts) return "How far the consumer is, is not known yet.";
  const { clickhouseAway: away } = facts;
  if (away) return `ClickHouse has not answered since ${timeText(away.sinceMs)}; the consumer stores it when it does.`;
  const flow = facts.flows.find((each) => each.topic === topic);
  const full = fullOfClickHouse(facts);
  if (full) return `The ${fullText(full)}; the consumer stores it when there is room.`;
  if (facts.consumerFault !== undefined) return `The consumer waits: ${facts.consumerFault}.`;
  if (flow?.stuckSinceMs !== undefined && isStuck(facts, flow, flow.stuckSinceMs)) {
    return `The consumer has not moved since ${timeText(flow.stuckSinceMs)}: is one running? Its /readyz says why it waits.`;
  }
  const rate = flow?.storedPerSecond ?? 0;
  const ahead = flow?.partitions.find((each) => each.partition === partition);
  if (rate > 0 && ahead && ahead.end - ahead.next > rate) {
    return `The consumer is behind and stores about ${numberText(Math.round(rate))} records a second.`;
  }
  return "It goes into the consumer's next batch, which takes a second or two.";
}

function logAway({ logAway: away, logSystem }: Facts): Problem | undefined {
  if (!away) return undefined;
  const fault = logSystem === "kafka" ? "has not answered" : "could not be written";
  const text = `No events are taken: the event log ${fault} since ${timeText(away.sinceMs)} (${away.why}). Callers get 503 and keep their events; what was acknowledged before is on the log, none is lost.`;
  return {
    ...{ name: "log_away", severity: "loss", text, sinceMs: away.sinceMs },
    remedy:
      logSystem === "kafka"
        ? "See that the brokers run and can be reached (`millrace doctor`), and that their disks have room."
        : "See that the disk of DATA_DIR has room and can be written; events are taken again by themselves.",
  };
}

function clickhouseAway({ clickhouseAway: away, flows, newestRowMs }: Facts): Problem | undefined {
  if (!away) return undefined;
  const rows = rowsText(newestRowMs.get(EVENTS_TOPIC));
  const waiting = waitingText(flows);
  return {
    ...{ name: "clickhouse_away", severity: "delay", sinceMs: away.sinceMs },
    text: `${rows}: ClickHouse has not answered since ${timeText(away.sinceMs)} (${away.why}).${waiting}`,
    remedy: "Start ClickHouse again, or see what its own log says; the consumer goes on by itself.",
  };
}

function flowProblem(facts: Facts, flow: TopicFlow): Problem | undefined {
  const { nowMs, newestRowMs, consumerFault } = facts;
  const { topic, waiting, stuckSinceMs, oldestWaitingMs } = flow;
  // The reason is told already.
  if (facts.clickhouseAway || facts.logAway || fullOfClickHouse(facts) || waiting === 0) return undefined;
  const suffix = topic === EVENTS_TOPIC ? "" : "_points";
  if (stuckSinceMs !== undefined && isStuck(facts, flow, stuckSinceMs)) {
    const why = consumerFault === undefined ? "" : ` (${consumerFault})`;
    return {
      ...{ name: `consumer_stopped${suffix}`, severity: "delay", sinceMs: stuckSinceMs },
      text: `${rowsText(newestRowMs.get(topic))}: the consumer has not moved since ${timeText(stuckSinceMs)}${why}.${waitingText([flow])}`,
      remedy: "Start `millrace consumer`; if it runs, its /readyz and its log say what it waits for.",
    };
  }
  if (oldestWaitingMs === undefined || nowMs - oldestWaitingMs < BEHIND_MS) return undefined;
  const seconds = Math.round((nowMs - oldestWaitingMs) / 1000);
  return {
    ...{ name: `behind${suffix}`, severity: "delay", sinceMs: oldestWaitingMs },
    text: `Rows are ${numberText(seconds)} s behind: the consumer works, and more comes in than it stores.${waitingText([flow])}`,
    remedy: "Wait, or run more consumers, up to one a partition; docs/runbook.md has what slows them.",
  };
}

/** What it waits for may be over, and be found out by a consumer only some seconds later. */
function isStuck({ nowMs, backMs = 0 }: Facts, { batchWait }: TopicFlow, sinceMs: number): boolean {
  return nowMs - Math.max(sinceMs, backMs) >= STUCK_MS + (batchWait?.ms ?? 0);
}

export function fullOfClickHouse({ disks }: Pick<Facts, "disks">): FullDisk | undefined {
  return disks.filter(isFull).find(({ name }) => name !== LOG_DISK);
}

function disks(facts: Facts): Problem[] {
  // A log that cannot be written says itself that its disk is full.
  const told = (disk: Disk) => facts.logAway !== undefined && disk.name === LOG_DISK;
  return facts.disks
    .filter((disk) => !told(disk))
    .filter(({ free, total }) => free < DISK_FREE_BYTES_MIN || free < total * DISK_FREE_SHARE_MIN)
    .map((disk) => ({
      ...{ name: `disk_${disk.name}`, severity: disk.free < DISK_FREE_BYTES_MIN ? "delay" : "notice" },
      ...{ sinceMs: disk.fullSinceMs ?? facts.nowMs, text: roomText(facts, disk) },
      remedy: "Free space or enlarge the disk; EVENTS_RETENTION and POINTS_RETENTION limit what is kept.",
    }));
}

function roomText({ flows, newestRowMs }: Facts, disk: Disk): string {
  const left = `${sizeText(disk.free)} of ${sizeText(disk.total)}`;
  if (!isFull(disk))
    return `The ${diskText(disk)} has ${left} left. When it is full, no more is stored; what was acknowledged stays on the log.`;
  const full = `${fullText(disk)} (${left} left).`;
  if (disk.name === LOG_DISK) return `The ${full} Callers may get 503, and keep their events.`;
  return `${rowsText(newestRowMs.get(EVENTS_TOPIC))}: the ${full}${waitingText(flows)}`;
}

function fullText(disk: FullDisk): string {
  return `${diskText(disk)} has been full since ${timeText(disk.fullSinceMs)}`;
}

function diskText({ name }: Disk): string {
  return name === LOG_DISK ? "disk of the log" : `disk of ClickHouse (${name.slice(name.indexOf(":") + 1)})`;
}

function letters({ letters: found }: Facts): Problem | undefined {
  if (!found || found.lastHour === 0) return undefined;
  return {
    ...{ name: "dead_letters", severity: "notice", sinceMs: found.newestMs },
    text: `${numberText(found.lastHour)} events of the last hour could not be stored (${found.newestClass}). Their bytes are kept.`,
    remedy: "`millrace dead-letters ls` shows why; `millrace dead-letters replay` puts them on the log again.",
  };
}

function verified({ verify }: Facts): Problem | undefined {
  if (!verify || verify.isSound) return undefined;
  const { atMs, missing, doubled } = verify;
  return {
    ...{ name: "verify_failed", severity: "loss", sinceMs: atMs },
    text: `\`millrace verify\` found ${numberText(missing)} events missing and ${numberText(doubled)} doubled at ${timeText(atMs)}, or a roll-up that differs.`,
    remedy: "Run it again: it names the offsets. `millrace verify --repair` brings back what the log still has.",
  };
}

function rowsText(newestMs: number | undefined): string {
  return newestMs === undefined ? "No rows" : `No rows since ${timeText(newestMs)}`;
}

function waitingText(flows: readonly TopicFlow[]): string {
  const waiting = flows.filter((flow) => flow.waiting > 0);
  if (waiting.length === 0) return " Nothing waits on the log.";
  const counts = waiting.map(({ topic, waiting: n }) => {
    const noun = topic === EVENTS_TOPIC ? "event" : "point";
    return `${numberText(n)} ${noun}${n === 1 ? "" : "s"}`;
  });
  const isOne = waiting.length === 1 && waiting[0]?.waiting === 1;
  return ` ${counts.join(" and ")} ${isOne ? "waits" : "wait"} on the log, none is lost.`;
}

function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

function numberText(n: number): string {
  return n.toLocaleString("en-US");
}

function sizeText(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}
