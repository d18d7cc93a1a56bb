// `millrace import`: exit code 0 when every row is in, 3 when some were refused, 1 on failure, 2 for wrong arguments,
// 130 when it was interrupted.

import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { addAbortSignal } from "node:stream";
import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { type CommandRun, createCommand } from "#lib/process/run-command.ts";
import { createBoundaries } from "./boundaries.ts";
import { type Checkpoint, CheckpointError, createCheckpoint, type Progress } from "./checkpoint.ts";
import { type ImportConfig, parseImportConfig } from "./config.ts";
import { type FileIdentity, identify, rowId } from "./identity.ts";
import { runImport } from "./importer.ts";
import { createMapper } from "./map.ts";
import { createRowParser } from "./parse.ts";
import { createDisplay } from "./progress.ts";
import { InputError, splitRows } from "./records.ts";
import { createPublisher, PublishError } from "./send.ts";
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

interface Input {
  /** Undefined for what can be read only once. */
  identity: FileIdentity | undefined;
  chunks(): AsyncIterable<Buffer>;
}

async function importFile(config: ImportConfig, signal: AbortSignal, { out, say }: CommandRun): Promise<number> {
  const startedMs = performance.now();
  trustAuthorities(config.tlsCa);
  const input = await openInput(config.file, signal);
  const checkpoint = input.identity && checkpointOf(config, input.identity);
  const before = config.force ? undefined : await checkpoint?.read();
  if (before?.done) {
    out(`already imported (${linesText(before)}); --force sends it again\n`);
    return exitOk;
  }
  const resumed = before === undefined ? 0 : before.imported + before.refused;

  let bytesRead = 0;
  const total = input.identity?.bytes;
  const display = createDisplay(process.stderr, () => total && bytesRead / total, resumed);
  if (resumed > 0) display.notice(`going on after ${resumed} lines`);
  const publisher = createPublisher({
    url: config.url,
    apiKey: config.apiKey,
    onRetry: (reason, delayMs) => display.retrying(`${reason}; trying again in ${(delayMs / 1000).toFixed(1)} s`),
  });
  // Rows of a stream have no lasting identity: a retry within this run is recognised, another run is another import.
  const identity = input.identity ?? { sha256: randomUUID(), bytes: 0 };
  try {
    const progress = await runImport({
      rows: splitRows(
        counted(input.chunks(), (bytes) => {
          bytesRead += bytes;
        }),
        createBoundaries(config.format),
      ),
      parser: createRowParser(config.format),
      mapper: createMapper(
        config.event,
        config.columns,
        createTimeParser({ zone: config.tz, dateOrder: config.dateOrder }),
      ),
      idOf: (row) => rowId(identity, config.event, row.number),
      publisher,
      checkpoint,
      resume: before,
      // What was sent before --force may be older than the ids that the consumer remembers.
      checkStored: config.checkStored || config.force,
      onRefused: display.refused,
      onNotice: display.notice,
      onProgress: display.update,
      signal,
    });
    display.close();
    return report(progress, performance.now() - startedMs, resumed, checkpoint !== undefined, { out, say });
  } finally {
    display.close();
  }
}

function report(
  progress: Progress,
  elapsedMs: number,
  resumed: number,
  canRepeat: boolean,
  { out, say }: Pick<CommandRun, "out" | "say">,
): number {
  const { imported, refused } = progress;
  const earlier = resumed === 0 ? "" : ` (${resumed} of them in an earlier run)`;
  const seconds = (elapsedMs / 1000).toFixed(1);
  out(`imported ${imported}, refused ${refused}, ${imported + refused} lines in ${seconds} s${earlier}\n`);
  if (refused === 0) return exitOk;
  if (canRepeat) say("with other settings, --force tries the refused lines again and doubles none");
  return exitRefused;
}

function linesText({ imported, refused }: Progress): string {
  return `${imported + refused} lines${refused === 0 ? "" : `, ${refused} of them refused`}`;
}

async function openInput(file: string, signal: AbortSignal): Promise<Input> {
  if (file === "-") return { identity: undefined, chunks: () => addAbortSignal(signal, process.stdin) };
  // A pipe under a name, such as a shell's <(…), can be read only once, like standard input.
  if ((await stat(file)).isFIFO()) return { identity: undefined, chunks: () => createReadStream(file, { signal }) };
  const identity = await identify(createReadStream(file, { signal }));
  return { identity, chunks: () => unchanged(file, identity, signal) };
}

/** The content that the ids were derived from, or an InputError at its end. What was appended since is left out. */
async function* unchanged(file: string, identity: FileIdentity, signal: AbortSignal): AsyncGenerator<Buffer> {
  if (identity.bytes === 0) return;
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(file, { end: identity.bytes - 1, highWaterMark: 256 * 1024, signal })) {
    digest.update(chunk);
    yield chunk;
  }
  if (digest.digest("hex") !== identity.sha256) throw new InputError("the file was changed while it was imported");
}

async function* counted(chunks: AsyncIterable<Buffer>, count: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    count(chunk.length);
    yield chunk;
  }
}

function checkpointOf(config: ImportConfig, identity: FileIdentity): Checkpoint {
  const { file, event, url, format, columns, tz, dateOrder } = config;
  const options = JSON.stringify({ ...columns, tz, dateOrder });
  const path = config.checkpoint ?? `${file}.millrace-checkpoint`;
  return createCheckpoint(path, { ...identity, format, url, event, options });
}
