// The import itself: rows in file order → batches, a few of them in flight → a watermark below which everything is in.

import type { Event } from "#gen/millrace/events/v1/events_pb.ts";
import type { Checkpoint, Progress } from "./checkpoint.ts";
import type { IdOf, Mapper } from "./map.ts";
import type { RowParser } from "./parse.ts";
import { InputError, type RawRow } from "./records.ts";
import type { Publisher } from "./send.ts";

export interface ImportOptions {
  rows: AsyncIterable<RawRow>;
  parser: RowParser;
  mapper: Mapper;
  idsOf(row: RawRow): IdOf;
  publisher: Publisher;
  /** Undefined for input that cannot be read again. */
  checkpoint: Checkpoint | undefined;
  /** Where an earlier run came to. */
  resume: Progress | undefined;
  /** Look up every id, also of rows that were never sent as far as the checkpoint knows. */
  checkStored: boolean;
  onRefused(place: string, reason: string): void;
  onNotice(text: string): void;
  onProgress(progress: Readonly<Progress>): void;
  /** Ends the import: what is in flight is given up and counts as not acknowledged. */
  signal: AbortSignal;
}

const batchEventsMax = 1000;
// UTF-16 units of row text, at most three bytes each: with one last row of 16 MiB still below the gateway's 20 MB a
// request for all text that is not mostly beyond Latin letters, and a request that is too large is cut in halves.
const batchTextMax = 2 * 1024 * 1024;
const inFlightMax = 4;
// How far sending may run ahead of the oldest batch without an answer; with what is reserved ahead, it is how much a
// resumed import has to look up again. A reservation is an fsync, so each is good for several batches.
const windowBatchesMax = 8;
const reservedBatches = 4;
const namesShownMax = 20;

interface Batch {
  events: Event[];
  places: string[];
  textLength: number;
  firstRow: number;
  lastRow: number;
  /** Rows of this range that never became events. */
  faults: number;
  refused: number;
  settled: boolean;
}

function emptyBatch(): Batch {
  return { events: [], places: [], textLength: 0, firstRow: 0, lastRow: 0, faults: 0, refused: 0, settled: false };
}

/**
 * Resolves with the final progress when every row is durable at the gateway or refused. Rejects with PublishError,
 * CheckpointError, InputError, what `rows` throws, or the signal's reason; what was acknowledged is in the checkpoint.
 */
export async function runImport(options: ImportOptions): Promise<Progress> {
  const { signal } = options;
  const progress: Progress = options.resume ?? { acknowledged: 0, reserved: 0, imported: 0, refused: 0, done: false };
  const skipTo = progress.acknowledged;
  const sentBefore = progress.reserved;
  const giveUp = new AbortController();
  const stop = AbortSignal.any([signal, giveUp.signal]);
  const flight = createFlight(options, progress, sentBefore, stop, (reason) => giveUp.abort(reason));

  let batch = emptyBatch();
  // Until the columns are known to be there: a mistyped one refuses every row for a reason that is not the true one.
  let unsaid: { place: string; reason: string }[] | undefined = [];
  const refuse = (place: string, reason: string): void => {
    if (unsaid === undefined) options.onRefused(place, reason);
    else unsaid.push({ place, reason });
  };
  const close = async (): Promise<void> => {
    const closed = batch;
    batch = emptyBatch();
    if (closed.firstRow === 0) return;
    if (unsaid !== undefined) checkColumns(options);
    for (const { place, reason } of unsaid ?? []) options.onRefused(place, reason);
    unsaid = undefined;
    await flight.dispatch(closed);
  };

  try {
    for await (const row of options.rows) {
      stop.throwIfAborted();
      const mapped = mapRow(row, options, skipTo);
      if (mapped === undefined) continue;
      const textLength = row.content.ok ? row.content.text.length : 0;
      const isFull = batch.events.length + batch.faults >= batchEventsMax;
      if (isFull || (batch.events.length > 0 && batch.textLength + textLength > batchTextMax)) await close();
      if (batch.firstRow === 0) batch.firstRow = row.number;
      batch.lastRow = row.number;
      if (mapped.ok) {
        batch.events.push(mapped.event);
        batch.places.push(row.place);
        batch.textLength += textLength;
      } else {
        batch.faults += 1;
        refuse(row.place, mapped.reason);
      }
    }
    await close();
    await flight.drain();
    if (progress.imported + progress.refused === 0) throw new InputError("the file has no rows: nothing was imported");
    progress.done = true;
    await options.checkpoint?.write(progress);
    return progress;
  } catch (error) {
    // Whatever failed, what was acknowledged until now must not be sent again.
    giveUp.abort(error);
    await flight.abandon();
    throw stop.reason ?? error;
  }
}

/** Undefined: the row is not due, because it names the columns or an earlier run has dealt with it. */
function mapRow(row: RawRow, { parser, mapper, idsOf }: ImportOptions, skipTo: number) {
  const isDone = row.number <= skipTo;
  if (!row.content.ok) {
    if (!parser.isReady()) throw new InputError(`the header row ${row.content.reason}`);
    return isDone ? undefined : row.content;
  }
  // The header is read in every run; other rows that are done are not even parsed.
  if (isDone && parser.isReady()) return undefined;
  const parsed = parser.parse(row.content.text);
  if (parsed === undefined || isDone) return undefined;
  return parsed.ok ? mapper.map(parsed.fields, idsOf(row)) : parsed;
}

/** A mistyped column would import everything with the column's part missing: say so before the first event is sent. */
function checkColumns({ parser, mapper, onNotice }: ImportOptions): void {
  const header = parser.columns();
  // Rows that cannot be read have columns that nobody knows; each says itself what is wrong with it.
  if (header === undefined && mapper.rows() === 0) return;
  for (const { name, required } of mapper.unseenColumns()) {
    if (header !== undefined && !header.includes(name)) {
      const more = header.length > namesShownMax ? ` and ${header.length - namesShownMax} more` : "";
      const shown = `${header.slice(0, namesShownMax).join(", ")}${more}`;
      throw new InputError(`there is no column "${name}"; the header has ${shown}`);
    }
    if (header !== undefined) continue;
    if (required) throw new InputError(`none of the first rows has "${name}"`);
    onNotice(`none of the first rows has "${name}"`);
  }
}

interface Flight {
  /** Resolves when the batch is on its way, which is when there is room for it. */
  dispatch(batch: Batch): Promise<void>;
  drain(): Promise<void>;
  /** Waits for the end of what was given up and saves the watermark. */
  abandon(): Promise<void>;
}

function createFlight(
  options: ImportOptions,
  progress: Progress,
  sentBefore: number,
  stop: AbortSignal,
  fail: (reason: unknown) => void,
): Flight {
  const { checkpoint, publisher } = options;
  const unsettled: Batch[] = [];
  const running = new Set<Promise<void>>();
  let saving: Promise<void> = Promise.resolve();

  const save = (): Promise<void> => {
    saving = saving.then(() => checkpoint?.write({ ...progress }));
    return saving;
  };

  const advance = (): void => {
    while (unsettled[0]?.settled === true) {
      const batch = unsettled.shift();
      if (batch === undefined) break;
      progress.acknowledged = batch.lastRow;
      progress.refused += batch.faults + batch.refused;
      progress.imported += batch.events.length - batch.refused;
    }
    options.onProgress(progress);
  };

  const send = async (batch: Batch): Promise<void> => {
    try {
      const checkStored = options.checkStored || batch.firstRow <= sentBefore;
      const refusals = batch.events.length === 0 ? [] : await publisher.publish(batch.events, checkStored, stop);
      for (const { index, reason } of refusals) options.onRefused(batch.places[index] ?? "", reason);
      batch.refused = refusals.length;
      batch.settled = true;
      advance();
    } catch (error) {
      fail(error);
    }
  };

  return {
    async dispatch(batch) {
      while (running.size >= inFlightMax || unsettled.length >= windowBatchesMax) {
        stop.throwIfAborted();
        await Promise.race(running);
      }
      // Written ahead: after a crash the file must know of every row that may have been sent.
      if (batch.lastRow > progress.reserved) {
        progress.reserved = batch.lastRow + reservedBatches * batchEventsMax;
        await save();
      }
      stop.throwIfAborted();
      unsettled.push(batch);
      const task = send(batch).finally(() => running.delete(task));
      running.add(task);
    },
    async drain() {
      await Promise.all(running);
      stop.throwIfAborted();
    },
    async abandon() {
      await Promise.all(running);
      // An import that sent nothing leaves nothing behind, so that a mistyped command can simply be corrected.
      if (progress.reserved > 0) await save();
    },
  };
}
