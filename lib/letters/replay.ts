// Replays of dead letters: letter by letter, oldest first, onto the log again. It keeps no state of its own. What
// is a row already is skipped here; what is still on its way, because another replay runs or one was killed, the
// consumer recognises: a replay has the letter's own id and key, so it comes to the same partition, is looked up there
// among all rows, and is a duplicate of the first. Rows of points stay for POINTS_RETENTION only, so that a letter of a
// point is replayed only while every row it may have become is still there.
import { type AppendRecord, LogUnavailableError, RecordTooLargeError } from "#lib/eventlog/log.ts";
import { makeReplay, type ReplayChanges } from "#lib/events/replay-record.ts";
import { EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import type { PositionNames } from "#lib/ledger/position-name.ts";
import { printable, printableJson } from "#lib/process/printable.ts";
import { retryForever } from "#lib/process/retry.ts";
import { keptSince } from "#lib/warehouse/retention.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { type Letter, type LetterFilter, type Letters, partitionKey } from "./letters.ts";
import { makePointReplay } from "./replay-point.ts";
import { type Identity, identityKey, storedRows } from "./stored-rows.ts";

/** Where replays are appended. */
export interface ReplayTarget {
  /** As EventLog.append; may reject with an error of its own, after which nothing else will be taken either. */
  append(records: readonly AppendRecord[], topic: string): Promise<{ partition: number; offset: number }[]>;
}

export interface ReplayDeps {
  warehouse: Warehouse;
  letters: Letters;
  names: PositionNames;
  target: ReplayTarget;
  /** What was done, a line a letter. */
  report(line: string): void;
  /** What a person waits for or has to look at. */
  notice(line: string): void;
  onProgress(counts: Readonly<ReplayCounts>): void;
}

export interface ReplayOptions {
  filter: LetterFilter;
  changes: ReplayChanges;
  /** Most letters to append. */
  limit: number;
  dryRun: boolean;
}

export interface ReplayCounts {
  /** Appended; with `dryRun`: would have been. */
  replayed: number;
  /** The event is a row already. */
  stored: number;
  notReplayable: number;
  /** Appends that failed, after which it is not known whether the log has them. Running it again settles that. */
  failed: number;
}

interface Candidate {
  letter: Letter;
  value: Uint8Array;
  identity: Identity;
  /** For a person: event or metric, and its name. */
  what: string;
}

/** Of one append: below Kafka's default message.max.bytes, because all of it may go to one partition. */
const APPEND_BYTES_MAX = 900_000;
const ATTEMPTS_MAX = 5;
const RETRY_BASE_MS = 300;
const RETRY_CAP_MS = 4000;

/** Ends early when the log does not take appends. Rejects with WarehouseError, or with what the target rejects with. */
export async function replayLetters(deps: ReplayDeps, options: ReplayOptions): Promise<ReplayCounts> {
  const { letters, names, warehouse } = deps;
  const pointsKeptMs = (await keptSince(warehouse, ["points"])) ?? 0;
  const counts: ReplayCounts = { replayed: 0, stored: 0, notReplayable: 0, failed: 0 };
  // Replays that die again become letters while this goes on; it is about those that were there when it began.
  const highest = await letters.highest(options.filter);
  const wasThere = (letter: Letter) => letter.offset <= (highest.get(partitionKey(letter)) ?? -1);

  for await (const page of letters.read(options.filter, "oldest")) {
    const candidates: Candidate[] = [];
    for (const letter of page.filter(wasThere)) {
      const candidate = candidateOf(letter, options.changes, pointsKeptMs);
      if (typeof candidate !== "string") candidates.push(candidate);
      else reportUnreplayable(deps, counts, letter, candidate);
    }
    const due = (await withoutStored(deps, candidates, counts)).slice(0, options.limit - counts.replayed);
    if (options.dryRun) {
      counts.replayed += due.length;
      for (const { letter, what, identity } of due) {
        deps.report(`would replay ${names.nameOf(letter)}: ${what}, id ${identity.id}`);
      }
    } else {
      for (const group of groupsOf(due)) if (!(await appendGroup(deps, group, counts))) return counts;
    }
    deps.onProgress(counts);
    if (counts.replayed >= options.limit) break;
  }
  return counts;
}

/** What is to be appended, or why nothing can be. */
function candidateOf(letter: Letter, changes: ReplayChanges, pointsKeptMs: number): Candidate | string {
  const { topic } = letter;
  if (topic === EVENTS_TOPIC) {
    const made = makeReplay(letter, changes);
    if ("fault" in made) return `${made.field}: ${made.message}`;
    const { value, id, apiKey, event } = made;
    return { letter, value, identity: { topic, id, apiKey }, what: `event ${printableJson(event)}` };
  }
  if (topic !== POINTS_TOPIC) return `topic ${topic} has neither events nor points`;
  const made = makePointReplay(letter, changes);
  if (typeof made === "string") return made;
  if (letter.appendTimeMs < pointsKeptMs) {
    return "the point is older than rows of points are kept (POINTS_RETENTION): nothing tells whether it was replayed before";
  }
  const { value, id, metric } = made;
  return { letter, value, identity: { topic, id, apiKey: "" }, what: `metric ${printableJson(metric)}` };
}

function reportUnreplayable({ names, notice }: ReplayDeps, counts: ReplayCounts, letter: Letter, reason: string): void {
  counts.notReplayable += 1;
  notice(`not replayable: ${names.nameOf(letter)}: ${printable(reason)}`);
}

/** Without those whose event is a row, and without all but the first of one event. */
async function withoutStored(
  { warehouse, names, report }: ReplayDeps,
  candidates: readonly Candidate[],
  counts: ReplayCounts,
): Promise<Candidate[]> {
  const rows = await storedRows(
    warehouse,
    candidates.map(({ identity }) => identity),
  );
  const firsts = new Map<string, Letter>();
  return candidates.filter(({ letter, identity }) => {
    const key = identityKey(identity);
    const [row, first] = [rows.get(key), firsts.get(key)];
    if (!row && !first) {
      firsts.set(key, letter);
      return true;
    }
    counts.stored += 1;
    const why = row ? `already a row at ${names.nameOf(row)}` : `the same event as ${names.nameOf(first as Letter)}`;
    report(`skipped ${names.nameOf(letter)}: ${why}`);
    return false;
  });
}

/** Of one topic each. */
function* groupsOf(candidates: readonly Candidate[]): Generator<Candidate[]> {
  let group: Candidate[] = [];
  let bytes = 0;
  for (const candidate of candidates) {
    const size = candidate.letter.key.length + candidate.value.length;
    const isOther = group[0] !== undefined && group[0].identity.topic !== candidate.identity.topic;
    if (group.length > 0 && (isOther || bytes + size > APPEND_BYTES_MAX)) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(candidate);
    bytes += size;
  }
  if (group.length > 0) yield group;
}

/** False when the log does not take appends. */
async function appendGroup(deps: ReplayDeps, group: readonly Candidate[], counts: ReplayCounts): Promise<boolean> {
  const { names, report, notice } = deps;
  try {
    const positions = await appendPatiently(deps, group);
    for (const [index, { letter, identity }] of group.entries()) {
      const { partition, offset } = positions[index] ?? {};
      report(`replayed ${names.nameOf(letter)} as ${identity.topic}:${partition}:${offset}`);
    }
    counts.replayed += group.length;
    return true;
  } catch (error) {
    if (error instanceof RecordTooLargeError) {
      const [only] = group;
      if (only && group.length === 1) {
        reportUnreplayable(deps, counts, only.letter, error.message);
        return true;
      }
      for (const candidate of group) if (!(await appendGroup(deps, [candidate], counts))) return false;
      return true;
    }
    if (!(error instanceof LogUnavailableError)) throw error;
    counts.failed += group.length;
    notice(`failed: ${group.length} letters from ${names.nameOf((group[0] as Candidate).letter)} on: ${error.message}`);
    return false;
  }
}

/** Under the letter's own key, whatever was set: two replays of one letter must meet in one partition. */
function toRecord({ letter, value }: Candidate): AppendRecord {
  return { key: letter.key, value };
}

/** An append that failed may have landed; sending it again is what `check_stored` is for. */
function appendPatiently({ target, notice }: ReplayDeps, group: readonly Candidate[]) {
  const topic = group[0]?.identity.topic ?? EVENTS_TOPIC;
  const records = group.map(toRecord);
  let attempts = 0;
  return retryForever(() => target.append(records, topic), {
    signal: new AbortController().signal,
    baseMs: RETRY_BASE_MS,
    capMs: RETRY_CAP_MS,
    isTransient: (error) => error instanceof LogUnavailableError && ++attempts < ATTEMPTS_MAX,
    onRetry: ({ error, delayMs }) => {
      const reason = printable(error instanceof Error ? error.message : String(error));
      notice(`trying again in ${(delayMs / 1000).toFixed(1)} s: ${reason}`);
    },
  });
}
