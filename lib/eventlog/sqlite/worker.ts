// The thread that owns the SQLite log. It waits for the disk so that the event loop never does: whatever arrived during
// one commit shares the next.

import { parentPort, workerData } from "node:worker_threads";
import { LogUnavailableError } from "../log.ts";
import type { Call, Failure, Reply } from "./calls.ts";
import type { StoreOptions } from "./open.ts";
import { createStore, type Store, type WriteOp } from "./store.ts";

type ReadCall = Extract<Call, { op: "read" }>;
type WriteCall = Extract<Call, { op: WriteOp["op"] }>;

/** Bounds the memory and the time of one transaction; a single larger append still goes alone. */
const GROUP_BYTES_MAX = 16 * 1024 * 1024;
/** A reader in another process than the writer's does not hear of appends and has to look. */
const FOREIGN_POLL_MS = 50;

function serve(port: NonNullable<typeof parentPort>, options: StoreOptions): void {
  const queue: Call[] = [];
  const waiting = new Map<ReadCall, NodeJS.Timeout>();
  let replies: Reply[] = [];
  let transfer: ArrayBuffer[] = [];
  let store: Store | undefined;
  let poll: NodeJS.Timeout | undefined;
  let scheduled = false;

  port.on("message", (call: Call) => {
    queue.push(call);
    schedule();
  });

  // Not at once: the messages that piled up behind the last commit are delivered first, and join this group.
  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    setImmediate(work);
  }

  function work(): void {
    scheduled = false;
    const calls = queue.splice(0, groupLength(queue));
    const writes = calls.filter((call) => call.op === "append" || call.op === "commit");
    if (writes.length > 0) write(writes);
    for (const call of calls) if (call.op !== "append" && call.op !== "commit") attempt(call, () => act(call));
    if (writes.length > 0) serveWaiting();
    flush();
    if (queue.length > 0) schedule();
  }

  function flush(): void {
    if (replies.length === 0) return;
    port.postMessage(replies, transfer);
    replies = [];
    transfer = [];
  }

  function write(calls: readonly WriteCall[]): void {
    try {
      const results = opened().write(calls);
      for (const [index, { id }] of calls.entries()) {
        const result = results[index];
        replies.push(result instanceof Error ? { id, failure: describe(result) } : { id, value: result });
      }
    } catch (error) {
      for (const { id } of calls) replies.push({ id, failure: describe(error) });
    }
  }

  function attempt(call: Call, action: () => void): void {
    try {
      action();
    } catch (error) {
      replies.push({ id: call.id, failure: describe(error) });
    }
  }

  function opened(): Store {
    if (!store) throw new LogUnavailableError(`event log ${options.file} is not open`);
    return store;
  }

  function act(call: Exclude<Call, WriteCall>): void {
    const answer = (value: unknown) => replies.push({ id: call.id, value });
    switch (call.op) {
      case "open":
        store = createStore(options);
        if (options.readOnly) poll = setInterval(lookAgain, FOREIGN_POLL_MS);
        answer(undefined);
        break;
      case "read":
        if (!answerRead(call)) waitFor(call);
        break;
      case "trim":
        trim(call);
        break;
      case "bounds":
        answer(opened().bounds(call.topic));
        break;
      case "committed":
        answer(opened().committed(call.topic, call.group));
        break;
      case "createTopics":
        answer(opened().createTopics(call.topics));
        break;
      case "epoch":
        answer(opened().epoch());
        break;
      case "probe":
        opened().probe();
        answer(undefined);
        break;
      case "close":
        close();
        answer(undefined);
        break;
      default:
        call satisfies never;
    }
  }

  function answerRead(call: ReadCall): boolean {
    const frame = opened().read(call);
    if (!frame) return false;
    replies.push({ id: call.id, value: frame });
    transfer.push(frame.buffer);
    return true;
  }

  function waitFor(call: ReadCall): void {
    const expire = () => {
      waiting.delete(call);
      replies.push({ id: call.id, value: undefined });
      flush();
    };
    waiting.set(call, setTimeout(expire, call.maxWaitMs));
  }

  function serveWaiting(): void {
    for (const [call, timer] of waiting) {
      let done = true;
      attempt(call, () => {
        done = answerRead(call);
      });
      if (!done) continue;
      clearTimeout(timer);
      waiting.delete(call);
    }
  }

  function lookAgain(): void {
    serveWaiting();
    flush();
  }

  /** A step at a time, so that appends go in between. */
  function trim(call: Extract<Call, { op: "trim" }>): void {
    if (opened().trimStep(call.topic, call.partition, call.before)) {
      replies.push({ id: call.id, value: undefined });
      return;
    }
    setImmediate(() => {
      attempt(call, () => trim(call));
      flush();
    });
  }

  function close(): void {
    clearInterval(poll);
    for (const [call, timer] of waiting) {
      clearTimeout(timer);
      replies.push({ id: call.id, value: undefined });
    }
    waiting.clear();
    // The listener is what keeps the thread alive.
    port.unref();
    const closing = store;
    store = undefined;
    closing?.close();
  }
}

/** How many calls from the head of the queue go together. */
function groupLength(queue: readonly Call[]): number {
  let bytes = 0;
  for (const [index, call] of queue.entries()) {
    if (call.op !== "append") continue;
    bytes += call.frame.byteLength;
    if (bytes > GROUP_BYTES_MAX && index > 0) return index;
  }
  return queue.length;
}

function describe(error: unknown): Failure {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), cause: undefined };
  return { name: error.name, message: error.message, cause: error.cause };
}

if (!parentPort) throw new Error("worker.ts runs as a worker thread only");
serve(parentPort, workerData as StoreOptions);
