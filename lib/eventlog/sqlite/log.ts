// The event log in one SQLite file, for one process (standalone, tests). One partition a topic; a record is durable when
// append resolves. The file is used on a thread of its own (worker.ts): neither fsync nor a large read holds up
// the event loop. A second process may open the file read-only, for audits.

import { Worker } from "node:worker_threads";
import type { Logger } from "#lib/process/log.ts";
import {
  type AppendRecord,
  type Assignment,
  AssignmentLostError,
  LogUnavailableError,
  type OpenLog,
  type ReadOptions,
  RecordTooLargeError,
  type StoredRecord,
} from "../log.ts";
import { createWorkerCalls, type WorkerCalls } from "./calls.ts";
import { packRecords, unpackRecords } from "./frames.ts";
import { createGroups } from "./groups.ts";
import type { StoreOptions } from "./open.ts";

export interface SqliteLogOptions {
  /** Path, or ":memory:". Its directory is made when missing. */
  file: string;
  /** Opens an existing file next to the process that writes it; append, commit, trim and consume are refused. */
  readOnly?: boolean | undefined;
  /** The file never grows beyond this; appends are then refused as on a full disk. Default: the disk decides. */
  maxFileBytes?: number | undefined;
  logger?: Pick<Logger, "warn"> | undefined;
}

/** Key and value together. */
const RECORD_BYTES_MAX = 4 * 1024 * 1024;
/** Appends handed over and not yet durable: beyond it the disk is slower than the senders, and they must hear of it. */
const PENDING_BYTES_MAX = 256 * 1024 * 1024;
const CLOSE_MS_MAX = 10_000;

/** Rejects with LogUnavailableError when the file is missing (read-only), owned by another process, damaged or foreign. */
export async function createSqliteLog(options: SqliteLogOptions): Promise<OpenLog> {
  const { file, readOnly = false, maxFileBytes } = options;
  const workerData: StoreOptions = { file, readOnly, maxFileBytes };
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { workerData });
  const thread = createWorkerCalls(worker, `event log ${file}`);
  try {
    await thread.call("open", {});
  } catch (error) {
    await worker.terminate();
    throw error;
  }
  return createLog(options, worker, thread);
}

function createLog({ file, readOnly, logger }: SqliteLogOptions, worker: Worker, thread: WorkerCalls): OpenLog {
  const groups = createGroups(makeAssignment, (fields, message) => logger?.warn(fields, message));
  let pendingBytes = 0;
  let closed: Promise<void> | undefined;

  const call: WorkerCalls["call"] = (op, args, transfer) =>
    closed !== undefined
      ? Promise.reject(new LogUnavailableError(`event log ${file} is closed`))
      : thread.call(op, args, transfer);

  function refuseReadOnly(): void {
    if (readOnly) throw new LogUnavailableError(`event log ${file} was opened read-only: only its owner can write`);
  }

  async function read(topic: string, partition: number, options: ReadOptions): Promise<StoredRecord[]> {
    const frame = await call("read", { topic, partition, ...options });
    return frame ? unpackRecords(frame, options.from) : [];
  }

  // Handed over before the first await: calls keep their order, and a close right after them waits for them.
  async function append(topic: string, records: readonly AppendRecord[]) {
    refuseReadOnly();
    if (records.length === 0) return [];
    for (const record of records) refuseTooLarge(topic, record);
    if (pendingBytes > PENDING_BYTES_MAX) throw tooFarBehind(file);
    const frame = packRecords(records);
    const bytes = frame.byteLength;
    pendingBytes += bytes;
    try {
      const first = await call("append", { topic, frame }, [frame.buffer]);
      return records.map((_, index) => ({ partition: 0, offset: first + index }));
    } finally {
      pendingBytes -= bytes;
    }
  }

  function makeAssignment(topic: string, group: string, lost: AbortSignal): Assignment {
    // A lost commit may still have reached the file before the next owner asked for it: the thread keeps their order.
    const fenced = <T>(act: () => Promise<T>) => unlessAborted(lost, () => assignmentLost(topic, group), act);
    return {
      topic,
      partition: 0,
      lost,
      committed: () => fenced(async () => (await call("committed", { topic, group })).get(0)),
      commit: ({ offset, metadata }) =>
        fenced(async () => {
          await call("commit", { topic, group, partition: 0, commit: { offset, metadata } });
        }),
      bounds: () => fenced(() => call("bounds", { topic })),
      topicId: () => fenced(async () => undefined),
      read: (options) => fenced(() => read(topic, 0, options)),
    };
  }

  async function close(): Promise<void> {
    await groups.close();
    const timer = setTimeout(() => void worker.terminate(), CLOSE_MS_MAX);
    try {
      // Behind every append and commit handed over so far, and answered after them.
      await thread.call("close", {});
    } finally {
      clearTimeout(timer);
      await worker.terminate();
    }
  }

  return {
    system: "sqlite",
    append: (topic, records, signal) =>
      signal
        ? unlessAborted(
            signal,
            () => signal.reason,
            () => append(topic, records),
          )
        : append(topic, records),
    async consume(options) {
      refuseReadOnly();
      await call("bounds", { topic: options.topic });
      await groups.join(options);
    },
    tail: read,
    bounds: async (topic) => [await call("bounds", { topic })],
    committed: (topic, group) => call("committed", { topic, group }),
    async createTopics(topics) {
      refuseReadOnly();
      return call("createTopics", { topics: topics.map(({ topic }) => topic) });
    },
    async trim(topic, partition, before) {
      refuseReadOnly();
      await call("trim", { topic, partition, before });
    },
    epoch: () => call("epoch", {}),
    topicId: async () => undefined,
    async check() {
      refuseReadOnly();
      await call("probe", {});
    },
    [Symbol.asyncDispose]() {
      closed ??= close();
      return closed;
    },
  };
}

function refuseTooLarge(topic: string, { key, value }: AppendRecord): void {
  const bytes = key.byteLength + value.byteLength;
  if (bytes <= RECORD_BYTES_MAX) return;
  throw new RecordTooLargeError(`a record of ${bytes} bytes for topic ${topic}: at most ${RECORD_BYTES_MAX} fit`);
}

function tooFarBehind(file: string): LogUnavailableError {
  return new LogUnavailableError(
    `event log ${file} cannot keep up, ${PENDING_BYTES_MAX} bytes wait for the disk: send less or set DATA_DIR to a faster disk`,
  );
}

function assignmentLost(topic: string, group: string): AssignmentLostError {
  return new AssignmentLostError(`partition 0 of topic ${topic} no longer belongs to this consumer of group ${group}`);
}

/** Rejects as soon as the signal fires; what was begun goes on and its outcome is unknown to the caller. */
function unlessAborted<T>(signal: AbortSignal, reason: () => unknown, act: () => Promise<T>): Promise<T> {
  if (signal.aborted) return Promise.reject(reason());
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(reason());
    signal.addEventListener("abort", onAbort, { once: true });
    act()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", onAbort));
  });
}
