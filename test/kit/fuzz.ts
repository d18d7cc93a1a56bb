// Random and damaged inputs for decoders. A fixed seed and number of inputs, unless FUZZ_SECONDS says for how long each
// decoder is to be fed new ones.
import fc from "fast-check";
import { expect } from "vitest";
import { atMost, patience } from "./patience.ts";

const SEED = 20_260_920;
const INPUTS = 400;
/** Reading an input of at most 64 KiB takes a thousandth of this; what does not is on its way to a hang. */
const ONE_INPUT_MS_MAX = atMost(1_000);

const seconds = Number(process.env.FUZZ_SECONDS ?? 0);

/** Time for a test that calls `fuzz`, milliseconds. */
export const FUZZ_TIMEOUT_MS = patience(60_000) + seconds * 2_000;

/**
 * Feeds inputs to `read`. It passes when each of them is read, or refused by one of these errors, in good time; `read`
 * itself checks what has been read.
 */
export async function fuzz<Input>(
  inputs: fc.Arbitrary<Input>,
  refusals: readonly (abstract new (...args: never[]) => Error)[],
  read: (input: Input) => unknown,
): Promise<void> {
  const property = fc.asyncProperty(inputs, async (input) => {
    const begunMs = performance.now();
    try {
      await read(input);
    } catch (error) {
      if (!refusals.some((each) => error instanceof each)) throw error;
    }
    expect(performance.now() - begunMs).toBeLessThan(ONE_INPUT_MS_MAX);
  });
  const forLong = { numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: seconds * 1_000 };
  await fc.assert(property, seconds > 0 ? forLong : { numRuns: INPUTS, seed: SEED });
}

/** Any bytes: noise, and a little that is repeated for long. */
const noise = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 8_000 }))
    .map(([piece, times]) => Buffer.alloc(piece.length * times, piece)),
);

type Edit = (bytes: Buffer) => Buffer;

/** Places are shares of the length, so that an edit fits every input. */
const place = fc.double({ min: 0, max: 1, noNaN: true });
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(place, fc.nat(255)).map(
    ([at, byte]): Edit =>
      (bytes) =>
        splice(bytes, at, 1, Buffer.of(byte)),
  ),
  fc.tuple(place, noise).map(
    ([at, more]): Edit =>
      (bytes) =>
        splice(bytes, at, 0, more),
  ),
  fc.tuple(place, fc.nat(64)).map(
    ([at, count]): Edit =>
      (bytes) =>
        splice(bytes, at, count, Buffer.alloc(0)),
  ),
  place.map(
    (at): Edit =>
      (bytes) =>
        bytes.subarray(0, Math.floor(at * bytes.length)),
  ),
  fc.tuple(place, place).map(
    ([at, from]): Edit =>
      (bytes) => {
        return splice(bytes, at, 0, bytes.subarray(Math.floor(from * bytes.length)));
      },
  ),
);

function splice(bytes: Buffer, share: number, remove: number, add: Uint8Array): Buffer {
  const at = Math.floor(share * bytes.length);
  return Buffer.concat([bytes.subarray(0, at), add, bytes.subarray(at + remove)]);
}

/** Noise, and what is left of good samples after a few edits. */
export function damaged(samples: readonly (Uint8Array | string)[]): fc.Arbitrary<Buffer> {
  const good = fc.constantFrom(
    ...samples.map((each): Buffer => (typeof each === "string" ? Buffer.from(each) : Buffer.from(each))),
  );
  return fc.oneof(
    noise.map((bytes): Buffer => Buffer.from(bytes)),
    {
      weight: 4,
      arbitrary: fc
        .tuple(good, fc.array(edit, { maxLength: 4 }))
        .map(([bytes, edits]) => edits.reduce<Buffer>((all, apply) => apply(all).subarray(0, 65_536), bytes)),
    },
  );
}

/** The same as text. */
export function damagedText(samples: readonly string[]): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 4, arbitrary: damaged(samples).map((bytes) => bytes.toString()) },
    fc.string({ unit: "binary", maxLength: 60 }),
  );
}

/** `bytes` in pieces that begin at these shares of it. */
export function cut(bytes: Buffer, shares: readonly number[]): Buffer[] {
  const ends = shares.map((share) => Math.floor(share * bytes.length)).sort((a, b) => a - b);
  return [...ends, bytes.length].map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
}

export const cuts = fc.array(place, { maxLength: 4 });
