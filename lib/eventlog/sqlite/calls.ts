// Calls from the event loop to the log's thread, and what happens to them when that thread dies.

import type { Worker } from "node:worker_threads";
import { type Commit, LogUnavailableError, OffsetOutOfRangeError, type PartitionBounds } from "../log.ts";
import type { ReadRange } from "./store.ts";

/** What the thread does, by name: arguments and result. */
export interface Operations {
  /** Answered once the thread has opened the file; it is the first call. */
  open: { args: Record<never, never>; result: undefined };
  append: { args: { topic: string; frame: Uint8Array<ArrayBuffer> }; result: number };
  commit: { args: { topic: string; group: string; partition: number; commit: Commit }; result: number };
  /** Undefined when nothing came within `maxWaitMs`. */
  read: { args: ReadRange & { maxWaitMs: number }; result: Uint8Array<ArrayBuffer> | undefined };
  bounds: { args: { topic: string }; result: PartitionBounds };
  committed: { args: { topic: string; group: string }; result: Map<number, Commit> };
  createTopics: { args: { topics: string[] }; result: string[] };
  trim: { args: { topic: string; partition: number; before: number }; result: undefined };
  epoch: { args: Record<never, never>; result: string };
  probe: { args: Record<never, never>; result: undefined };
  /** The last call: the thread ends after its answer. */
  close: { args: Record<never, never>; result: undefined };
}

export type Call = { [Op in keyof Operations]: { id: number; op: Op } & Operations[Op]["args"] }[keyof Operations];

/** The structured clone keeps neither the class nor the name of an error. */
export interface Failure {
  name: string;
  message: string;
  cause: unknown;
}

export type Reply = { id: number; value: unknown } | { id: number; failure: Failure };

export interface WorkerCalls {
  /** Rejects with what the thread threw, or with LogUnavailableError once the thread is gone. */
  call<Op extends keyof Operations>(
    op: Op,
    args: Operations[Op]["args"],
    transfer?: readonly ArrayBuffer[],
  ): Promise<Operations[Op]["result"]>;
}

/** `what` names the log in error messages. */
export function createWorkerCalls(worker: Worker, what: string): WorkerCalls {
  const pending = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let lastId = 0;
  let gone: LogUnavailableError | undefined;

  function threadEnded(cause: unknown): void {
    gone ??= new LogUnavailableError(`the thread of ${what} ended unexpectedly: restart the process`, { cause });
    for (const { reject } of pending.values()) reject(gone);
    pending.clear();
  }

  // One message answers a whole group commit.
  worker.on("message", (replies: Reply[]) => {
    for (const reply of replies) {
      const call = pending.get(reply.id);
      pending.delete(reply.id);
      if ("failure" in reply) call?.reject(revive(reply.failure));
      else call?.resolve(reply.value);
    }
  });
  worker.on("error", threadEnded);
  worker.on("exit", (code) => threadEnded(new Error(`the thread exited with code ${code}`)));

  return {
    call<Op extends keyof Operations>(op: Op, args: Operations[Op]["args"], transfer: readonly ArrayBuffer[] = []) {
      if (gone) return Promise.reject(gone);
      lastId++;
      const { promise, resolve, reject } = Promise.withResolvers<Operations[Op]["result"]>();
      // The thread answers each operation with the result declared for it above.
      pending.set(lastId, { resolve: (value) => resolve(value as Operations[Op]["result"]), reject });
      worker.postMessage({ id: lastId, op, ...args }, transfer);
      return promise;
    },
  };
}

function revive({ name, message, cause }: Failure): Error {
  switch (name) {
    case "LogUnavailableError":
      return new LogUnavailableError(message, { cause });
    case "OffsetOutOfRangeError":
      return new OffsetOutOfRangeError(message, { cause });
    default:
      return new Error(message, { cause });
  }
}
