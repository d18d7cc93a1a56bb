// Decides where each event is. The one place that does: RPC, REST, command line and console show what is decided here.
import { create } from "@bufbuild/protobuf";
import { type Receipt, ReceiptSchema, ReceiptState, type Sighting } from "#gen/millrace/stats/v1/receipts_pb.ts";
import { type LogReader, LogUnavailableError } from "#lib/eventlog/log.ts";
import type { LogPlace } from "#lib/events/replay-record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { epochToTell } from "#lib/ledger/epochs.ts";
import { createPositionNames } from "#lib/ledger/position-name.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { CLICKHOUSE_AWAY } from "../refusals.ts";
import type { Asked } from "./asked.ts";
import { createLookUp, type Found, keyOf, type Reach, reachOf, storedEpochs } from "./lookup.ts";
import { type RefusalReport, type RefusalSource, toRefusedEvent } from "./refusals.ts";
import { createSightings, type Sightings, timestampOfMs } from "./sightings.ts";
import { type Backlog, readBacklog } from "./waiting.ts";
import { receiptText } from "./words.ts";

export interface ReceiptsOptions {
  log: LogReader;
  warehouse: Warehouse;
  refusals: RefusalSource;
  /** Why a record of this partition waits, as a sentence. */
  whyWaiting(partition: number): string;
}

export interface Receipts {
  /** One for each, in their order. What is away is told in the receipts. */
  where(asked: readonly Asked[], signal?: AbortSignal): Promise<Receipt[]>;
}

/** What was found out for one request, piece by piece. */
interface Evidence {
  /** Full epochs, the one of now first. */
  epochs: string[];
  current: string | undefined;
  stored: Found;
  backlog: Backlog | undefined;
  report: RefusalReport;
  reach: Reach | undefined;
  gaps: Set<string>;
}

const NOTHING: Found = { rows: [], outcomes: [], letters: [] };
/** Of more events than these only what identifies them is read. */
const WITH_PROPERTIES_MAX = 20;
const SIGHTINGS_MAX = 20;

const STATE_ORDER: readonly ReceiptState[] = [
  ReceiptState.STORED,
  ReceiptState.ERASED,
  ReceiptState.WAITING,
  ReceiptState.DEAD_LETTER,
  ReceiptState.CONFLICT,
  ReceiptState.DUPLICATE,
  ReceiptState.LOST,
];

export function createReceipts({ log, warehouse, refusals, whyWaiting }: ReceiptsOptions): Receipts {
  const lookUp = createLookUp(warehouse);
  return {
    async where(asked, signal) {
      const evidence = await gather(asked, signal);
      const sightings = createSightings(evidence, createPositionNames(evidence.epochs), whyWaiting);
      return asked.map((each) => decide(each, evidence, sightings));
    },
  };

  async function gather(asked: readonly Asked[], signal: AbortSignal | undefined): Promise<Evidence> {
    const gaps = new Set<string>();
    const [current, known] = await Promise.all([
      epochToTell(log, warehouse, EVENTS_TOPIC).catch(noting(gaps, undefined)),
      storedEpochs(warehouse, signal).catch(noting<string[]>(gaps, [])),
    ]);
    const epochs = [...new Set([...(current === undefined ? [] : [current]), ...known])];
    const withProperties = asked.length <= WITH_PROPERTIES_MAX;
    const ids = asked.filter(({ kind }) => kind === "id").map(({ text }) => text);
    const places = asked.flatMap((each) => placesOf(each, epochs, current));
    const ask = (wanted: { ids: readonly string[]; places: readonly LogPlace[] }) =>
      lookUp({ ...wanted, withProperties, signal }).catch(noting(gaps, NOTHING));

    const first = await ask({ ids, places });
    const evidence: Evidence = {
      ...{ epochs, current, gaps, stored: first, backlog: undefined, reach: undefined },
      report: { refused: [], sums: [], gaps: [] },
    };
    const isSettled = settledBy(first);
    const openIds = ids.filter((id) => !isSettled.ids.has(id));
    const openPlaces = places.filter((place) => !isSettled.places.has(keyOf(place)));
    if (openIds.length === 0 && openPlaces.length === 0) return evidence;
    // The log after ClickHouse, and ClickHouse again: what is stored between two looks is seen by one of them.
    evidence.backlog = await readBacklog(log, {
      ids: new Set(openIds),
      positions: openPlaces.filter(({ epoch }) => epoch === current),
      signal,
    }).catch(noting(gaps, undefined));
    const seen = (evidence.backlog?.found ?? []).map(({ partition, offset }) => placeAt(current, partition, offset));
    const [second, report, reach] = await Promise.all([
      ask({ ids: openIds, places: [...openPlaces, ...seen] }),
      refusals.ask(openIds, signal),
      reachOf(warehouse, signal).catch(noting(gaps, undefined)),
    ]);
    return { ...evidence, stored: joined(first, second), report, reach };
  }
}

function decide(asked: Asked, evidence: Evidence, sightings: Sightings): Receipt {
  const { report, reach, backlog, gaps } = evidence;
  const found = (asked.kind === "id" ? sightings.ofId(asked.text) : sightings.ofPosition(asked))
    .sort((a, b) => rankOf(asked, a) - rankOf(asked, b))
    .slice(0, SIGHTINGS_MAX);
  const refused =
    asked.kind === "id" ? report.refused.filter(({ id }) => id === asked.text).slice(0, SIGHTINGS_MAX) : [];
  const receipt = create(ReceiptSchema, {
    id: asked.text,
    sightings: found,
    refusals: refused.map(toRefusedEvent),
  });
  const missing = [...gaps, ...gapsOf(asked, backlog, reach)];
  if (found[0]) receipt.state = found[0].state;
  else if (missing.length > 0) receipt.state = ReceiptState.UNKNOWN;
  else receipt.state = refused.length > 0 ? ReceiptState.REFUSED : ReceiptState.NEVER_SEEN;
  // Refused is an answer of its own, and says no more than it does: what could not be searched is told beside it.
  if (!found[0] && refused.length > 0) receipt.state = ReceiptState.REFUSED;
  if (!found[0]) receipt.gaps = [...missing, ...(asked.kind === "id" ? report.gaps : [])];
  if (receipt.state === ReceiptState.NEVER_SEEN && reach?.sinceMs !== undefined) {
    receipt.since = timestampOfMs(reach.sinceMs);
  }
  receipt.text = receiptText(receipt, asked);
  return receipt;
}

/** What keeps "not found" from being "never seen". */
function gapsOf(asked: Asked, backlog: Backlog | undefined, reach: Reach | undefined): string[] {
  if (asked.kind === "position") return gapsOfPosition(asked, backlog);
  const gaps: string[] = [];
  if (backlog && backlog.unread > 0) gaps.push(`${backlog.unread} records wait on the log and were not read`);
  if (reach && reach.gone > 0) {
    gaps.push(`${reach.gone} events were erased or given up as lost, and can be found by their position only`);
  }
  return gaps;
}

function gapsOfPosition({ partition, offset }: { partition: number; offset: number }, backlog: Backlog | undefined) {
  const at = backlog?.partitions.get(partition);
  if (!at || offset >= at.end) return [];
  return [
    "the consumer has passed this position, and there is neither a row nor an outcome: retention removed them, or `millrace verify` shows what is missing",
  ];
}

function rankOf(asked: Asked, { state, position }: Sighting): number {
  const isAsked =
    asked.kind === "position" && Number(position?.offset) === asked.offset && position?.partition === asked.partition;
  return isAsked ? -1 : STATE_ORDER.indexOf(state);
}

function placesOf(asked: Asked, epochs: readonly string[], current: string | undefined): LogPlace[] {
  if (asked.kind === "id") return [];
  const { epoch: begin, partition, offset } = asked;
  const meant = begin === "" ? [current ?? ""] : epochs.filter((epoch) => epoch.startsWith(begin));
  return meant.map((epoch) => placeAt(epoch, partition, offset));
}

function placeAt(epoch: string | undefined, partition: number, offset: number): LogPlace {
  return { epoch: epoch ?? "", topic: EVENTS_TOPIC, partition, offset };
}

/** What needs no further look: a row is for good, everything else may have become more meanwhile. */
function settledBy({ rows, outcomes }: Found) {
  return {
    ids: new Set(rows.map(({ id }) => id)),
    places: new Set([...rows, ...outcomes].map(({ place }) => keyOf(place))),
  };
}

function joined(a: Found, b: Found): Found {
  return {
    rows: unique([...a.rows, ...b.rows]),
    outcomes: unique([...a.outcomes, ...b.outcomes]),
    letters: unique([...a.letters, ...b.letters]),
  };
}

function unique<T extends { place: LogPlace; outcome?: string }>(all: readonly T[]): T[] {
  return [...new Map(all.map((each) => [`${keyOf(each.place)} ${each.outcome}`, each])).values()];
}

/** A part that is away is a gap of the answer, with the reason; everything else is a fault. */
function noting<T>(gaps: Set<string>, instead: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof WarehouseError && error.kind === "transient") gaps.add(CLICKHOUSE_AWAY);
    else if (error instanceof LogUnavailableError) gaps.add(`the log cannot be read now: ${error.message}`);
    else throw error;
    return instead;
  };
}
