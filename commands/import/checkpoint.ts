// What of an import is known to be in, kept beside the file so that a killed import goes on where it was.

import { type FileHandle, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** What a checkpoint belongs to. Two imports that differ in any of these are different imports. */
export interface ImportIdentity {
  sha256: string;
  bytes: number;
  format: string;
  url: string;
  event: string;
  /** Columns and how dates are read, as text. */
  options: string;
}

export interface Progress {
  /** Every row up to this number is durable at the gateway, or refused. */
  acknowledged: number;
  /** Rows above this number have never been sent. */
  reserved: number;
  imported: number;
  refused: number;
  done: boolean;
}

export interface Checkpoint {
  read(): Promise<Progress | undefined>;
  /**
   * How far an earlier import came whose rows had the ids that this one's have, whatever its other options were; undefined
   * when none is known.
   */
  earlier(): Promise<{ progress: Progress; options: string } | undefined>;
  /** Durable when it resolves: the old content or the new one survives a crash, never a mixture. */
  write(progress: Progress): Promise<void>;
}

/** The checkpoint cannot be used; the message says what to do. */
export class CheckpointError extends Error {
  override readonly name = "CheckpointError";
}

const version = 1;

/** `read` and `write` throw CheckpointError; `read` also for a checkpoint that belongs to another import. */
export function createCheckpoint(path: string, belongsTo: ImportIdentity): Checkpoint {
  return {
    async read() {
      const text = await readIfThere(path);
      if (text === undefined) return undefined;
      const content = parseContent(text);
      if (content === undefined) {
        throw new CheckpointError(
          `${path} is not a checkpoint of this version: name another one with --checkpoint PATH`,
        );
      }
      const difference = differenceOf(content.import, belongsTo);
      if (difference === undefined) return content.progress;
      throw new CheckpointError(
        `${path} belongs to another import (${difference}): name another one with --checkpoint PATH, or start over with --force`,
      );
    },
    async earlier() {
      const content = parseContent((await readIfThere(path)) ?? "");
      if (content === undefined) return undefined;
      const { import: found, progress } = content;
      const hasSameIds = (["sha256", "bytes", "event", "url"] as const).every((key) => found[key] === belongsTo[key]);
      return hasSameIds ? { progress, options: found.options } : undefined;
    },
    write: (progress) =>
      replaceFile(path, `${JSON.stringify({ version, import: belongsTo, progress }, undefined, 2)}\n`),
  };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw new CheckpointError(`cannot read the checkpoint ${path} (${codeOf(error)})`, { cause: error });
  }
}

function parseContent(text: string): { import: ImportIdentity; progress: Progress } | undefined {
  let content: { version?: unknown; import?: ImportIdentity; progress?: Progress } | null;
  try {
    content = JSON.parse(text);
  } catch {
    // Files are replaced as a whole, so text that is no JSON was not written here.
    return undefined;
  }
  if (content?.version !== version || content.import === undefined || content.progress === undefined) return undefined;
  return { import: content.import, progress: content.progress };
}

function differenceOf(found: ImportIdentity, wanted: ImportIdentity): string | undefined {
  if (found.sha256 !== wanted.sha256 || found.bytes !== wanted.bytes) {
    return "the file had other content, and its rows would be new events now";
  }
  const key = (["format", "event", "options", "url"] as const).find((each) => found[each] !== wanted[each]);
  return key === undefined ? undefined : `its ${key}: ${found[key]}; now: ${wanted[key]}`;
}

async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await withFile(temporary, "w", async (file) => {
      await file.writeFile(text);
      await file.sync();
    });
    await rename(temporary, path);
    // The name is durable only with its directory.
    await withFile(dirname(path), "r", (directory) => directory.sync());
  } catch (error) {
    await rm(temporary, { force: true });
    const remedy = "make the directory writable or name another place with --checkpoint PATH";
    throw new CheckpointError(`cannot write the checkpoint ${path} (${codeOf(error)}): ${remedy}`, { cause: error });
  }
}

async function withFile(path: string, flags: string, use: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, flags);
  try {
    await use(file);
  } finally {
    await file.close();
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
