// `millrace import`: exit code 0 when every row is in, 3 when some were refused, 1 on failure, 2 for wrong arguments,
// 130 when it was interrupted.

import { randomUUID } from "node:crypto";
import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { type CommandRun, createCommand } from "#lib/process/run-command.ts";
import { createBoundaries } from "./boundaries.ts";
import { type Checkpoint, CheckpointError, createCheckpoint, type Progress } from "./checkpoint.ts";
import { type ImportConfig, parseImportConfig } from "./config.ts";
import { type FileIdentity, givenId, rowId } from "./identity.ts";
import { runImport } from "./importer.ts";
import { createMapper, type IdOf, type Mapper } from "./map.ts";
import { createRowParser } from "./parse.ts";
import { createDisplay } from "./progress.ts";
import { InputError, type RawRow, splitRows } from "./records.ts";
import { createPublisher, PublishError } from "./send.ts";
import { counted, openInput, textOf } from "./source.ts";
import { waitUntilStored } from "./stored.ts";
import { createTimeParser } from "./time.ts";

const exitOk = 0;
const exitFailed = 1;
const exitRefused = 3;
const exitInterrupted = 130;

class Interrupted extends Error {
  override readonly name = "Interrupted";
}

export const main = createCommand({
  name: "import",
  parse: parseImportConfig,
  async run({ config }, run) {
    const stop = new AbortController();
    const interrupt = (): void => stop.abort(new Interrupted());
    // Once: a second Ctrl-C ends the process at once, as without a handler.
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, interrupt);
      run.owner.defer(() => void process.off(signal, interrupt));
    }
    try {
      return await importFile(config, stop.signal, run);
    } catch (error) {
      // An interrupted read fails with an error of the stream's own.
      throw stop.signal.aborted ? stop.signal.reason : error;
    }
  },
  explain(error, { config }) {
    const text = explain(error, config);
    return text && { text, exitCode: error instanceof Interrupted ? exitInterrupted : exitFailed };
  },
});

/** Text for failures that are not bugs of this program. */
function explain(error: unknown, { file }: ImportConfig): string | undefined {
  if (error instanceof Interrupted) return "stopped; the same command continues from here";
  if (error instanceof InputError) return `${file}: ${error.message}`;
  if (error instanceof PublishError || error instanceof CheckpointError) return error.message;
  const isSystemError = error instanceof Error && "syscall" in error;
  return isSystemError ? `cannot read ${file}: ${error.message}` : undefined;
}

async function importFile(config: ImportConfig, signal: AbortSignal, { out, err, say }: CommandRun): Promise<number> {
  const startedMs = performance.now();
  trustAuthorities(config.tlsCa);
  const input = await openInput(config.file, signal);
  const options = optionsOf(config);
  const checkpoint = input.identity && checkpointOf(config, input.identity, options);
  const before = config.force ? undefined : await checkpoint?.read();
  if (before?.done) {
    out(`already imported (${linesText(before)}); --force sends it again\n`);
    return before.refused > 0 ? exitRefused : exitOk;
  }
  // The rows have the ids that they had then, and what is stored under an id stays.
  const earlier = before || config.newEvents ? undefined : await earlierOf(config, input.identity, options);
  const resumed = before === undefined ? 0 : before.imported + before.refused;

  let bytesRead = 0;
  const total = input.identity?.bytes;
  const { stderr } = process;
  const sink = { write: err, isTTY: stderr.isTTY, columns: () => stderr.columns };
  const display = createDisplay(sink, () => total && bytesRead / total, resumed);
  if (resumed > 0) display.notice(`going on after ${resumed} lines`);
  const publisher = createPublisher({
    url: config.url,
    apiKey: config.apiKey,
    onRetry: (reason, delayMs) => display.retrying(`${reason}; trying again in ${(delayMs / 1000).toFixed(1)} s`),
  });
  const count = (bytes: number) => {
    bytesRead += bytes;
  };
  const mapper = mapperOf(config);
  try {
    const progress = await runImport({
      rows: splitRows(textOf(counted(input.chunks(), count)), createBoundaries(config.format, config.separator)),
      parser: createRowParser(config.format, config.separator),
      mapper,
      idsOf: idsOf(config, input.identity, config.newEvents ? options : undefined),
      publisher,
      checkpoint,
      resume: before,
      // What was sent before --force may be older than the ids that the consumer remembers.
      checkStored: config.checkStored || config.force || earlier !== undefined,
      onRefused: display.refused,
      onNotice: display.notice,
      onProgress: display.update,
      signal,
    });
    display.close();
    const run = { elapsedMs: performance.now() - startedMs, resumed, canRepeat: checkpoint !== undefined };
    const exitCode = report(progress, run, earlier && { ...earlier, isOther: earlier.options !== options }, {
      out,
      say,
    });
    const nobody = mapper.withoutDistinctId();
    if (nobody > 0) say(`${nobody} rows have no ${config.columns.distinctId}: their events are nobody's`);
    const repeated = mapper.withRepeatedId();
    if (repeated > 0)
      say(`${repeated} rows have the ${config.columns.id} of a row before them: of each id one event is stored`);
    const missing = config.wait > 0 ? await waitUntilStored(config.url, config.wait, signal) : 0;
    if (missing)
      say(`${missing} events are on the log and not stored yet: millrace verify --wait 1m tells when they are`);
    return exitCode;
  } finally {
    display.close();
  }
}

function mapperOf({ event, columns, tz, dateOrder }: ImportConfig): Mapper {
  return createMapper(event, columns, createTimeParser({ zone: tz, dateOrder }));
}

function idsOf({ event, columns }: ImportConfig, file: FileIdentity | undefined, as: string | undefined) {
  // Rows of a stream have no lasting identity: a retry within this run is recognised, another run is another import.
  const identity = file ?? { sha256: randomUUID(), bytes: 0 };
  const name = event ?? `column ${columns.eventColumn}`;
  return (row: RawRow): IdOf => ({
    row: () => rowId(identity, name, row.number, as),
    column: (text) => givenId(text, as),
  });
}

interface Run {
  elapsedMs: number;
  /** Rows that an earlier run has dealt with. */
  resumed: number;
  canRepeat: boolean;
}

interface Earlier {
  progress: Progress;
  /** It had other options, by which its rows were other events. */
  isOther: boolean;
}

function report(
  { imported, refused }: Progress,
  { elapsedMs, resumed, canRepeat }: Run,
  earlier: Earlier | undefined,
  { out, say }: Pick<CommandRun, "out" | "say">,
): number {
  const before = resumed === 0 ? "" : ` (${resumed} of them in an earlier run)`;
  const unchanged = Math.min(imported, earlier?.progress.imported ?? 0);
  const stored = unchanged === 0 ? "" : `${unchanged} stored already and unchanged, `;
  const seconds = (elapsedMs / 1000).toFixed(1);
  out(
    `imported ${imported - unchanged}, ${stored}refused ${refused}, ${imported + refused} lines in ${seconds} s${before}\n`,
  );
  if (unchanged > 0 && earlier?.isOther) {
    say(
      "what is stored is as the earlier options made it: --new-events makes new events of all rows, beside the old ones",
    );
  }
  if (refused === 0) return exitOk;
  if (canRepeat) say("with other settings, --force tries the refused lines again and doubles none");
  return exitRefused;
}

function linesText({ imported, refused }: Progress): string {
  return `${imported + refused} lines${refused === 0 ? "" : `, ${refused} of them refused`}`;
}

/** What decides which events the rows become, beside the file. */
function optionsOf({ columns, tz, dateOrder, separator, newEvents }: ImportConfig): string {
  return JSON.stringify({ ...columns, tz, dateOrder, separator, newEvents: newEvents || undefined });
}

/** By the checkpoint that was named, or by the one of an import that named none. */
async function earlierOf(config: ImportConfig, identity: FileIdentity | undefined, options: string) {
  if (identity === undefined) return undefined;
  const usual = checkpointOf({ ...config, checkpoint: undefined }, identity, options);
  return (await checkpointOf(config, identity, options).earlier()) ?? (await usual.earlier());
}

function checkpointOf(config: ImportConfig, identity: FileIdentity, options: string): Checkpoint {
  const { file, event, columns, url, format } = config;
  const path = config.checkpoint ?? `${file}.millrace-checkpoint`;
  return createCheckpoint(path, { ...identity, format, url, event: event ?? `column ${columns.eventColumn}`, options });
}
