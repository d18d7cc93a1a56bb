// Keys of JSON objects as bytes: which of the wanted names a key is, and whether its object has it already.
import { randomInt } from "node:crypto";

/** Drawn once a process, so that nobody outside can prepare keys that share a hash. */
export const HASH_SEED = randomInt(2 ** 31);
const HASH_PRIME = 0x01000193;
const DEPTH_PRIME = 0x9e3779b1 | 0;

/** FNV-1a's step. Key scanners take it byte by byte from HASH_SEED on. */
export function hashStep(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, HASH_PRIME);
}

export function hashOf(bytes: Uint8Array): number {
  let hash = HASH_SEED;
  for (const byte of bytes) hash = hashStep(hash, byte);
  return hash;
}

/** Names that a reader asks for, found by a key's bytes. */
export class JsonNames {
  readonly #slots: Uint8Array;
  readonly #hashes: Int32Array;
  readonly #names: readonly Buffer[];
  readonly #indexes: ReadonlyMap<string, number>;

  constructor(names: readonly string[]) {
    let size = 16;
    while (size < 4 * names.length) size *= 2;
    this.#slots = new Uint8Array(size);
    this.#names = names.map((name) => Buffer.from(name));
    this.#hashes = Int32Array.from(this.#names, hashOf);
    this.#indexes = new Map(names.map((name, index) => [name, index]));
    for (const [index, hash] of this.#hashes.entries()) {
      let slot = hash & (size - 1);
      while (this.#slots[slot] !== 0) slot = (slot + 1) & (size - 1);
      this.#slots[slot] = index + 1;
    }
  }

  at(index: number): string {
    return this.#names[index]?.toString() ?? "";
  }

  indexOf(name: string): number {
    return this.#indexes.get(name) ?? -1;
  }

  /** Index of the name that bytes [from, to) are; -1 when they are none. */
  find(bytes: Uint8Array, from: number, to: number, hash: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const index = (this.#slots[slot] as number) - 1;
      if (index < 0) return -1;
      if (this.#hashes[index] === hash && isSame(this.#names[index] as Buffer, bytes, from, to)) return index;
    }
  }
}

const SLOTS = 8192;
/** A scanner's bounds keep far below it: three nested ones of a thousand keys. */
const ENTRIES_MAX = 4095;

/** Keys of the objects that are open, innermost last. */
export class OpenKeys {
  readonly #slots = new Uint16Array(SLOTS);
  readonly #slotOf = new Uint16Array(ENTRIES_MAX + 1);
  readonly #hashes = new Int32Array(ENTRIES_MAX + 1);
  /** Of a key without escapes, its place; of another, ~index in #decoded. */
  readonly #from = new Int32Array(ENTRIES_MAX + 1);
  readonly #to = new Int32Array(ENTRIES_MAX + 1);
  #decoded: Buffer[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  /** Number of keys; what `dropTo` takes to leave an object. */
  count = 0;

  begin(bytes: Buffer): void {
    this.dropTo(0);
    this.#decoded = [];
    this.#bytes = bytes;
  }

  /** False when the object whose keys begin behind `mark` has the key already. `decoded`: its bytes, if it has escapes. */
  add(from: number, to: number, keyHash: number, depth: number, mark: number, decoded: Buffer | undefined): boolean {
    if (this.count === ENTRIES_MAX) return true;
    // The same key on every level of a deep text must not share one slot.
    const hash = (keyHash + Math.imul(depth, DEPTH_PRIME)) | 0;
    let slot = (hash ^ (hash >>> 15)) & (SLOTS - 1);
    for (let entry = this.#slots[slot] as number; entry !== 0; entry = this.#slots[slot] as number) {
      if (entry > mark && this.#hashes[entry] === hash) {
        if (decoded ? this.#is(entry, decoded, 0, decoded.length) : this.#is(entry, this.#bytes, from, to))
          return false;
      }
      slot = (slot + 1) & (SLOTS - 1);
    }
    const entry = ++this.count;
    this.#slots[slot] = entry;
    this.#slotOf[entry] = slot;
    this.#hashes[entry] = hash;
    this.#from[entry] = decoded ? -this.#decoded.push(decoded) : from;
    this.#to[entry] = to;
    return true;
  }

  /** Forgets the keys that were added last; in that order the table is what it was before them. */
  dropTo(count: number): void {
    for (; this.count > count; this.count--) this.#slots[this.#slotOf[this.count] as number] = 0;
  }

  #is(entry: number, bytes: Uint8Array, from: number, to: number): boolean {
    const start = this.#from[entry] as number;
    if (start < 0) return isSame(this.#decoded[-start - 1] as Buffer, bytes, from, to);
    const length = (this.#to[entry] as number) - start;
    if (length !== to - from) return false;
    for (let i = 0; i < length; i++) if (this.#bytes[start + i] !== bytes[from + i]) return false;
    return true;
  }
}

function isSame(whole: Buffer, bytes: Uint8Array, from: number, to: number): boolean {
  if (whole.length !== to - from) return false;
  for (let i = from; i < to; i++) if (whole[i - from] !== bytes[i]) return false;
  return true;
}
