// The console's files in memory, made when a browser first asks for one.
import { hash } from "node:crypto";
import { once } from "node:events";
import { Worker } from "node:worker_threads";

/** What the thread hands over; bytes arrive as Uint8Array. */
export interface Built {
  path: string;
  type: string;
  body: Uint8Array;
  gzip: Uint8Array;
}

export interface ConsoleFile extends Built {
  etag: string;
}

export type ConsoleFiles = ReadonlyMap<string, ConsoleFile>;

/** Rejects with what went wrong in the thread. */
export async function buildConsole(): Promise<ConsoleFiles> {
  // In a thread: it takes a quarter of a second, which callers of the process must not wait for. Taking types out is
  // "experimental" by a warning that says nothing to an operator.
  const worker = new Worker(new URL("./build.ts", import.meta.url), {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  try {
    const [files] = (await once(worker, "message")) as [Built[]];
    return new Map(files.map((file) => [file.path, { ...file, etag: `"${hash("sha256", file.body, "base64url")}"` }]));
  } finally {
    await worker.terminate();
  }
}

/** Builds once; after a failure, again. */
export function createFiles(): () => Promise<ConsoleFiles> {
  let files: Promise<ConsoleFiles> | undefined;
  return () => {
    files ??= buildConsole().catch((error: unknown) => {
      files = undefined;
      throw error;
    });
    return files;
  };
}
