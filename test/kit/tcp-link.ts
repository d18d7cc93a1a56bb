// What the two directions of a proxied TCP connection do to the bytes on their way: delay, bandwidth, silence.
import type { Socket } from "node:net";

export type Direction = "forward" | "back";

export interface Lane {
  stop(): void;
}

/** The conditions that all connections of one proxy share. */
export interface Link {
  lane(direction: Direction, from: Socket, to: Socket): Lane;
  setLatency(ms: number): void;
  setBytesPerSecond(limit: number | undefined): void;
  blackhole(on: boolean, only?: Direction): void;
}

/** Held by one lane before its source is paused: bounds memory, and with a latency also the throughput. */
const HELD_BYTES_MAX = 1024 * 1024;
/** With a bandwidth, bytes go on in portions worth this long, so that a small limit is slow rather than in bursts. */
const PORTION_MS = 20;

interface Held {
  dueMs: number;
  /** Undefined: the end of the stream. */
  bytes: Buffer | undefined;
}

interface Conditions {
  latencyMs: number;
  bytesPerSecond: number | undefined;
  readonly blackholed: Record<Direction, boolean>;
  /** When each direction's bandwidth is free again. */
  readonly freeAtMs: Record<Direction, number>;
}

interface MovingLane extends Lane {
  conditionsChanged(): void;
}

export function createLink(): Link {
  const lanes = new Set<MovingLane>();
  const conditions: Conditions = {
    latencyMs: 0,
    bytesPerSecond: undefined,
    blackholed: { forward: false, back: false },
    freeAtMs: { forward: 0, back: 0 },
  };
  const changed = () => {
    for (const lane of lanes) lane.conditionsChanged();
  };
  return {
    lane(direction, from, to) {
      const lane = createLane(conditions, direction, from, to);
      lanes.add(lane);
      return {
        stop() {
          lanes.delete(lane);
          lane.stop();
        },
      };
    },
    setLatency(ms) {
      conditions.latencyMs = ms;
    },
    setBytesPerSecond(limit) {
      if (limit !== undefined && !(limit > 0)) throw new RangeError(`not a bandwidth: ${limit}`);
      conditions.bytesPerSecond = limit;
      conditions.freeAtMs.forward = 0;
      conditions.freeAtMs.back = 0;
      changed();
    },
    blackhole(on, only) {
      for (const direction of ["forward", "back"] as const) {
        conditions.blackholed[direction] = on && (only ?? direction) === direction;
      }
      changed();
    },
  };
}

function createLane(conditions: Conditions, direction: Direction, from: Socket, to: Socket): MovingLane {
  const held: Held[] = [];
  let heldBytes = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  /** The next portion under a bandwidth: reserved once, so that lanes take turns and none is starved. */
  let portion: { bytes: number; atMs: number } | undefined;

  function hold(bytes: Buffer | undefined): void {
    held.push({ dueMs: performance.now() + conditions.latencyMs, bytes });
    heldBytes += bytes?.length ?? 0;
    if (heldBytes >= HELD_BYTES_MAX) from.pause();
    move();
  }

  function reserve(length: number, nowMs: number): { bytes: number; atMs: number } {
    const limit = conditions.bytesPerSecond;
    if (limit === undefined) return { bytes: length, atMs: nowMs };
    const bytes = Math.min(length, Math.max(1, Math.floor((limit * PORTION_MS) / 1000)));
    const atMs = Math.max(nowMs, conditions.freeAtMs[direction]);
    conditions.freeAtMs[direction] = atMs + (bytes / limit) * 1000;
    return { bytes, atMs };
  }

  /** Forwards what may go now and comes back when the next may. */
  function move(): void {
    clearTimeout(timer);
    for (let head = held[0]; head !== undefined; head = held[0]) {
      if (stopped || conditions.blackholed[direction] || to.writableNeedDrain) return;
      const nowMs = performance.now();
      if (head.dueMs <= nowMs && head.bytes !== undefined) portion ??= reserve(head.bytes.length, nowMs);
      const waitMs = (portion?.atMs ?? head.dueMs) - nowMs;
      if (waitMs > 0) {
        timer = setTimeout(move, Math.ceil(waitMs));
        return;
      }
      pass(head);
    }
  }

  function pass(head: Held): void {
    if (head.bytes === undefined || portion === undefined) {
      held.shift();
      to.end();
      return;
    }
    to.write(head.bytes.subarray(0, portion.bytes));
    heldBytes -= portion.bytes;
    if (portion.bytes === head.bytes.length) held.shift();
    else head.bytes = head.bytes.subarray(portion.bytes);
    portion = undefined;
    if (from.isPaused() && heldBytes < HELD_BYTES_MAX / 2) from.resume();
  }

  from.on("data", hold);
  from.on("end", () => hold(undefined));
  to.on("drain", move);
  return {
    conditionsChanged() {
      portion = undefined;
      move();
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
