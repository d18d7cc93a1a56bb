// How a place on the log is named for people: `epoch8:topic:partition:offset`, short enough to copy and exact among the stored epochs.
import type { LogPlace } from "#lib/events/replay-record.ts";
import { printable } from "#lib/process/printable.ts";

/** The text names no position, or more than one. */
export class PositionError extends Error {
  override readonly name = "PositionError";
}

export interface PositionNames {
  /** Exact among the epochs given; longer than eight characters of the epoch where those are not enough. */
  nameOf(place: LogPlace): string;
  /** The position of a name; undefined when no stored epoch begins like it. Throws PositionError. */
  find(name: string): LogPlace | undefined;
}

const EPOCH_CHARS = 8;
// Topic names have no colon; an epoch may, so it is what is left.
const NAME = /^(.+):([\w.-]+):(\d{1,10}):(\d{1,15})$/;

/** Throws PositionError for a text that cannot be a position. */
export function parsePosition(name: string): LogPlace {
  const [, epoch, topic, partition, offset] = NAME.exec(name) ?? [];
  if (epoch === undefined || topic === undefined) {
    throw new PositionError(`${printable(name)} is not a position; positions look like 1b2c3d4e:millrace.events:0:17`);
  }
  return { epoch, topic, partition: Number(partition), offset: Number(offset) };
}

export function createPositionNames(epochs: readonly string[]): PositionNames {
  return {
    nameOf({ epoch, topic, partition, offset }) {
      const others = epochs.filter((other) => other !== epoch);
      let chars = EPOCH_CHARS;
      while (chars < epoch.length && others.some((other) => other.startsWith(epoch.slice(0, chars)))) chars += 1;
      return printable(`${epoch.slice(0, chars)}:${topic}:${partition}:${offset}`);
    },
    find(name) {
      const place = parsePosition(name);
      const matching = epochs.filter((epoch) => epoch.startsWith(place.epoch));
      const [first, second] = matching;
      const exact = matching.find((epoch) => epoch === place.epoch);
      if (exact === undefined && second !== undefined) {
        throw new PositionError(`${printable(name)} could be of epoch ${first} or ${second}: write more of it`);
      }
      const epoch = exact ?? first;
      return epoch === undefined ? undefined : { ...place, epoch };
    },
  };
}
