// Events as bytes, the way they stand in a PublishRequest: encoded once when they are captured, never again.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Event, EventSchema, PublishRequestSchema } from "../../../gen/millrace/events/v1/events_pb.ts";

/** Events one after another, each as the tag of `PublishRequest.events`, its length, and the Event message. */
export interface Frames {
  readonly bytes: Uint8Array;
  /** Where each event ends in `bytes`. */
  readonly ends: readonly number[];
}

/** Field 1, length-delimited: `PublishRequest.events`. */
export const EVENTS_TAG = 0x0a;

export function countOf(frames: Frames): number {
  return frames.ends.length;
}

/** Bytes of one event, with tag and length. */
export function frameAt({ bytes, ends }: Frames, index: number): Uint8Array {
  return bytes.subarray(ends[index - 1] ?? 0, ends[index]);
}

/** The events at `indexes`, in that order, copied. */
export function pickFrames(frames: Frames, indexes: readonly number[]): Frames {
  return joinFrames(indexes.map((index) => frameAt(frames, index)));
}

export function joinFrames(parts: readonly Uint8Array[]): Frames {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  const ends: number[] = [];
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
    ends.push(at);
  }
  return { bytes, ends };
}

/** Events that are messages already. */
export function encodeFrames(events: readonly Event[]): Frames {
  const bytes = toBinary(PublishRequestSchema, create(PublishRequestSchema, { events: [...events] }));
  const ends: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { from, length } = readHead(bytes, at);
    at = from + length;
    ends.push(at);
  }
  return { bytes, ends };
}

/** Reads one event back. Throws when the bytes are no Event. */
export function decodeFrame(frame: Uint8Array): Event {
  return fromBinary(EventSchema, frame.subarray(readHead(frame, 0).from));
}

/** The id of an event that has one; it is the message's first field. */
export function idOf(frame: Uint8Array): string {
  const { from, length } = readHead(frame, readHead(frame, 0).from);
  return Buffer.from(frame.buffer, frame.byteOffset + from, length).toString();
}

/** Where the message of the frame at `at` begins, and its length. */
function readHead(bytes: Uint8Array, at: number): { from: number; length: number } {
  let from = at + 1;
  let length = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = bytes[from++] ?? 0;
    length += (byte & 0x7f) * factor;
    if (byte < 0x80) return { from, length };
  }
}
