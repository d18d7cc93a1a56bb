// Caller-made ids of the recent rows of one partition: a record whose id became a row at a lower offset is a retry.
// The window is a function of the log alone (append times and offsets), so that a replay decides as the first try did.
// It holds up to two million ids a partition, hence numbers in flat arrays: 40 bytes an id, where a Map of strings takes
// 240, and needs ever longer for its oldest entry the more of them were deleted.
import { hash, randomBytes } from "node:crypto";

export interface IdWindowBounds {
  /** Difference of two records' append times beyond which they are two events, milliseconds. */
  ageMsMax: number;
  /** Difference of two records' offsets beyond which they are two events. */
  offsetsMax: number;
}

/** Where and when the log took a record. */
export interface Moment {
  offset: number;
  appendTimeMs: number;
}

export interface IdWindow {
  /** Offset of the row with this windowId below `offset` and within the window; undefined when there is none. */
  firstOffset(id: string, offset: number, appendTimeMs: number): number | undefined;
  /** True when the second of two records with the same id counts as a retry of the first. */
  covers(first: Moment, second: Moment): boolean;
  /** Rows are added in the order of their offsets. A later row of the same id takes the place of the first. */
  add(id: string, offset: number, appendTimeMs: number): void;
  /** The same of an id as its 16 bytes in four little-endian words. */
  addUuid(uuid: Uint32Array, apiKey: string, offset: number, appendTimeMs: number): void;
  /** Makes room at once, for so many more rows at most. */
  reserve(rows: number): void;
  /** Rows held, bounded by offsetsMax + 1. */
  readonly size: number;
}

/** How far append times of one partition, and the clocks of its readers, may be apart. */
export const APPEND_TIME_MARGIN_MS = 600_000;

const UUID_CHARS = 16;

/** Ids are unique within one api key. The id is its 16 bytes. */
export function windowId(uuid: Uint8Array, apiKey: string): string {
  return Buffer.from(uuid.buffer, uuid.byteOffset, UUID_CHARS).toString("latin1") + apiKey;
}

export function createIdWindow(bounds: IdWindowBounds): IdWindow {
  return new Window(bounds);
}

const CAPACITY_MIN = 1024;
const WORDS = 4;
const API_KEYS_CACHED_MAX = 10_000;

/** A ring of entries in the order of their offsets, and a hash table of positions in it, with linear probing. */
class Window implements IdWindow {
  readonly #bounds: IdWindowBounds;
  /** The salt is secret, so that nobody can choose ids that meet in the table. */
  readonly #salt = randomBytes(16).toString("hex");
  readonly #saltOfKey = new Map<string, Uint32Array>();
  readonly #key = new Uint32Array(WORDS);
  /** A power of two. */
  #capacity = CAPACITY_MIN;
  #words = new Uint32Array(CAPACITY_MIN * WORDS);
  #offsets = new Float64Array(CAPACITY_MIN);
  #times = new Float64Array(CAPACITY_MIN);
  /** Position + 1; 0 is a free slot. Twice as many slots as entries. */
  #slots = new Int32Array(CAPACITY_MIN * 2);
  #oldest = 0;
  #size = 0;

  constructor(bounds: IdWindowBounds) {
    this.#bounds = bounds;
  }

  get size(): number {
    return this.#size;
  }

  covers(first: Moment, second: Moment): boolean {
    return (
      first.offset < second.offset &&
      second.offset - first.offset <= this.#bounds.offsetsMax &&
      second.appendTimeMs - first.appendTimeMs <= this.#bounds.ageMsMax
    );
  }

  firstOffset(id: string, offset: number, appendTimeMs: number): number | undefined {
    this.#load(id);
    const position = (this.#slots[this.#slotOf(this.#key, 0)] as number) - 1;
    if (position < 0) return undefined;
    const first = { offset: this.#offsets[position] as number, appendTimeMs: this.#times[position] as number };
    return this.covers(first, { offset, appendTimeMs }) ? first.offset : undefined;
  }

  add(id: string, offset: number, appendTimeMs: number): void {
    this.#load(id);
    this.#append(offset, appendTimeMs);
  }

  addUuid(uuid: Uint32Array, apiKey: string, offset: number, appendTimeMs: number): void {
    const salt = this.#saltOf(apiKey);
    for (let word = 0; word < WORDS; word++) this.#key[word] = (uuid[word] as number) ^ (salt[word] as number);
    this.#append(offset, appendTimeMs);
  }

  reserve(rows: number): void {
    const wanted = Math.min(this.#size + rows, this.#bounds.offsetsMax + 1);
    if (wanted > this.#capacity) this.#grow(2 ** Math.ceil(Math.log2(wanted)));
  }

  /** The id is in #key. */
  #append(offset: number, appendTimeMs: number): void {
    if (this.#size === this.#capacity) this.#grow(this.#capacity * 2);
    const position = (this.#oldest + this.#size) & (this.#capacity - 1);
    // Four assignments: a call of set() takes several times as long.
    const words = this.#words;
    const key = this.#key;
    const at = position * WORDS;
    words[at] = key[0] as number;
    words[at + 1] = key[1] as number;
    words[at + 2] = key[2] as number;
    words[at + 3] = key[3] as number;
    this.#offsets[position] = offset;
    this.#times[position] = appendTimeMs;
    this.#slots[this.#slotOf(this.#key, 0)] = position + 1;
    this.#size++;
    while (this.#isPast(this.#oldest, offset, appendTimeMs)) this.#dropOldest();
  }

  /** Append times may step back a little when another broker takes the partition over, so age alone has a margin. */
  #isPast(position: number, offset: number, appendTimeMs: number): boolean {
    const { offsetsMax, ageMsMax } = this.#bounds;
    return (
      offset - (this.#offsets[position] as number) > offsetsMax ||
      appendTimeMs - (this.#times[position] as number) > ageMsMax + APPEND_TIME_MARGIN_MS
    );
  }

  #dropOldest(): void {
    const slot = this.#slotOf(this.#words, this.#oldest * WORDS);
    // A later row of the same id has the slot, if there is one.
    if (this.#slots[slot] === this.#oldest + 1) this.#free(slot);
    this.#oldest = (this.#oldest + 1) & (this.#capacity - 1);
    this.#size--;
  }

  /** Closes the gap: what was moved on past this slot by its neighbours comes back. */
  #free(slot: number): void {
    const mask = this.#slots.length - 1;
    let gap = slot;
    for (let at = (slot + 1) & mask; this.#slots[at] !== 0; at = (at + 1) & mask) {
      const position = (this.#slots[at] as number) - 1;
      const home = hashOf(this.#words, position * WORDS) & mask;
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      this.#slots[gap] = position + 1;
      gap = at;
    }
    this.#slots[gap] = 0;
  }

  /** The slot that has these words, or the free one where they belong. */
  #slotOf(words: Uint32Array, from: number): number {
    const mask = this.#slots.length - 1;
    let slot = hashOf(words, from) & mask;
    for (; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const at = ((this.#slots[slot] as number) - 1) * WORDS;
      if (
        this.#words[at] === words[from] &&
        this.#words[at + 1] === words[from + 1] &&
        this.#words[at + 2] === words[from + 2] &&
        this.#words[at + 3] === words[from + 3]
      ) {
        break;
      }
    }
    return slot;
  }

  #grow(capacity: number): void {
    const [words, offsets, times, first] = [this.#words, this.#offsets, this.#times, this.#oldest];
    this.#capacity = capacity;
    this.#words = rotated(words, first * WORDS, new Uint32Array(this.#capacity * WORDS));
    this.#offsets = rotated(offsets, first, new Float64Array(this.#capacity));
    this.#times = rotated(times, first, new Float64Array(this.#capacity));
    this.#slots = new Int32Array(this.#capacity * 2);
    this.#oldest = 0;
    for (let position = 0; position < this.#size; position++) {
      this.#slots[this.#slotOf(this.#words, position * WORDS)] = position + 1;
    }
  }

  /** The id's 128 bits, mixed with the api key's. */
  #load(id: string): void {
    const salt = this.#saltOf(id.slice(UUID_CHARS));
    for (let word = 0, at = 0; word < WORDS; word++, at += 4) {
      const bits =
        id.charCodeAt(at) |
        (id.charCodeAt(at + 1) << 8) |
        (id.charCodeAt(at + 2) << 16) |
        (id.charCodeAt(at + 3) << 24);
      this.#key[word] = bits ^ (salt[word] as number);
    }
  }

  #saltOf(apiKey: string): Uint32Array {
    const known = this.#saltOfKey.get(apiKey);
    if (known) return known;
    const digest = hash("sha256", this.#salt + apiKey, "buffer");
    const salt = Uint32Array.from({ length: WORDS }, (_, word) => digest.readUInt32LE(word * 4));
    if (this.#saltOfKey.size >= API_KEYS_CACHED_MAX) this.#saltOfKey.clear();
    this.#saltOfKey.set(apiKey, salt);
    return salt;
  }
}

function rotated<T extends Uint32Array | Float64Array>(ring: T, first: number, larger: T): T {
  larger.set(ring.subarray(first));
  larger.set(ring.subarray(0, first), ring.length - first);
  return larger;
}

/** MurmurHash3's mixing of four words. */
function hashOf(words: Uint32Array, from: number): number {
  let sum = 0;
  for (let i = from; i < from + WORDS; i++) {
    const word = Math.imul(words[i] as number, 0xcc9e2d51);
    sum ^= Math.imul((word << 15) | (word >>> 17), 0x1b873593);
    sum = Math.imul((sum << 13) | (sum >>> 19), 5) + 0xe6546b64;
  }
  sum = Math.imul(sum ^ (sum >>> 16), 0x85ebca6b);
  sum = Math.imul(sum ^ (sum >>> 13), 0xc2b2ae35);
  return (sum ^ (sum >>> 16)) >>> 0;
}
