// JSON straight from bytes: one pass, no recursion, and nothing is made that nobody asks for.
import { CLOSING, ESCAPE, IN_STRING, LITERAL, NUMBER, OPENING, STRING, VALUE_START } from "./json-bytes.ts";
import type { JsonBounds, JsonCursor, JsonKind, JsonText } from "./json-cursor.ts";
import { JsonFault, pathAt } from "./json-fault.ts";
import { HASH_SEED, hashOf, hashStep, type JsonNames, OpenKeys } from "./json-keys.ts";
import { HAS_ESCAPE, HAS_HALF_PAIR, JsonLexer } from "./json-lexer.ts";
import { fault, type RuleFault } from "./rule-fault.ts";

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const UPPER_I = 0x49;
const UPPER_N = 0x4e;
const CLOSE_BRACKET = 0x5d;
const LOWER_N = 0x6e;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** In the place of an object's mark: an array. */
const ARRAY = -1;
/** A level takes four bytes; deeper text is not read at all. */
const LEVELS_MAX = 1_000_000;
const LEVELS_KEPT = 1024;

interface Bounds {
  keys: number;
  keysLeft: number;
  levels: number;
  /** The deepest level, counted from the text's first. */
  depth: number;
  /** Where the value begins that they bound. */
  at: number;
  /** Escaped half pairs before it. */
  halfPairs: number;
  passNaN: boolean;
}

/** Of what no bounds were set for: envelopes, and what is ignored in them. */
function outerBounds(): Bounds {
  const keys = Number.MAX_SAFE_INTEGER;
  return { keys, keysLeft: keys, levels: LEVELS_MAX, depth: LEVELS_MAX, at: 0, halfPairs: 0, passNaN: false };
}

export function createJsonScanner(): JsonCursor {
  return new Scanner();
}

class Scanner extends JsonLexer implements JsonCursor {
  name = -1;
  keyHash = 0;
  #at = 0;
  /** Of each level: how many keys #keys had when the object began, or ARRAY. */
  #levels = new Int32Array(LEVELS_KEPT);
  #depth = 0;
  readonly #keys = new OpenKeys();
  /** The innermost object or array has been entered, and nothing of it read. */
  #isFresh = false;
  #bounds = outerBounds();
  readonly #outer: Bounds[] = [];
  #keyFrom = 0;
  #keyTo = 0;
  #keyFlags = 0;
  #textFrom = 0;
  #textTo = 0;
  #textFlags = 0;

  open(bytes: Uint8Array, from = 0, to = bytes.length): void {
    this.#at = from;
    this.#depth = 0;
    this.#isFresh = false;
    if (this.#levels.length > LEVELS_KEPT) this.#levels = new Int32Array(LEVELS_KEPT);
    this.#outer.length = 0;
    this.#set(outerBounds());
    this.begin(bytes, from, to);
    this.#keys.begin(this.bytes);
  }

  position(): number {
    this.#at = this.space(this.#at);
    return this.#at;
  }

  kind(): JsonKind {
    const at = this.position();
    const byte = at < this.end ? (this.bytes[at] as number) : 0;
    switch (VALUE_START[byte]) {
      case STRING:
        return "string";
      case NUMBER:
        return "number";
      case OPENING:
        return byte === OPEN_BRACE ? "object" : "array";
      case LITERAL:
        if (byte === LOWER_N) return "null";
        return byte === UPPER_N || byte === UPPER_I ? "number" : "boolean";
      default:
        throw this.unexpected(at, "a value");
    }
  }

  enter(): void {
    const at = this.position();
    this.#open(this.bytes[at] === OPEN_BRACE, at);
    this.#at = at + 1;
    this.#isFresh = true;
  }

  nextMember(names: JsonNames): boolean {
    let at = this.space(this.#at);
    const byte = at < this.end ? this.bytes[at] : 0;
    if (byte === CLOSE_BRACE) {
      this.#leave(at + 1);
      return false;
    }
    if (this.#isFresh) this.#isFresh = false;
    else if (byte === COMMA) at = this.space(at + 1);
    else throw this.unexpected(at, closing(true));
    this.#at = this.#key(at, names);
    return true;
  }

  key(): string {
    return this.decode(this.#keyFrom, this.#keyTo, this.#keyFlags);
  }

  keyText(): JsonText {
    return this.piece(this.#keyFrom - 1, this.#keyTo + 1, (this.#keyFlags & HAS_HALF_PAIR) !== 0);
  }

  nextItem(): boolean {
    const at = this.space(this.#at);
    const byte = at < this.end ? this.bytes[at] : 0;
    if (byte === CLOSE_BRACKET) {
      this.#leave(at + 1);
      return false;
    }
    if (this.#isFresh) this.#isFresh = false;
    else if (byte === COMMA) this.#at = at + 1;
    else throw this.unexpected(at, closing(false));
    return true;
  }

  text(): string {
    const from = this.position() + 1;
    const to = this.string(from);
    this.#at = to + 1;
    this.#textFrom = from;
    this.#textTo = to;
    this.#textFlags = this.flags;
    return this.decode(from, to, this.flags);
  }

  textJson(): JsonText {
    return this.piece(this.#textFrom - 1, this.#textTo + 1, (this.#textFlags & HAS_HALF_PAIR) !== 0);
  }

  slice(): JsonText {
    const from = this.position();
    const before = this.halfPairs;
    this.skip();
    return this.piece(from, this.#at, this.halfPairs !== before);
  }

  skip(): void {
    const base = this.#depth;
    let at = this.#at;
    value: for (;;) {
      at = this.space(at);
      const kind = at < this.end ? VALUE_START[this.bytes[at] as number] : 0;
      if (kind === STRING) at = this.string(at + 1) + 1;
      else if (kind === NUMBER) at = this.number(at);
      else if (kind === LITERAL) at = this.literal(at);
      else if (kind === OPENING) {
        const isObject = this.bytes[at] === OPEN_BRACE;
        this.#open(isObject, at);
        at = this.space(at + 1);
        if (this.bytes[at] !== (isObject ? CLOSE_BRACE : CLOSE_BRACKET)) {
          if (isObject) at = this.#key(at, undefined);
          continue;
        }
      } else throw this.unexpected(at, "a value");
      // Behind a value, or at the end of an object or array that has none.
      while (this.#depth > base) {
        at = this.space(at);
        const byte = at < this.end ? this.bytes[at] : 0;
        const isObject = this.#levels[this.#depth - 1] !== ARRAY;
        if (byte === COMMA) {
          at = isObject ? this.#key(this.space(at + 1), undefined) : at + 1;
          continue value;
        }
        if (byte !== (isObject ? CLOSE_BRACE : CLOSE_BRACKET)) throw this.unexpected(at, closing(isObject));
        this.#leave(++at);
      }
      this.#at = at;
      return;
    }
  }

  close(): void {
    const at = this.position();
    if (at < this.end) throw this.unexpected(at, "the end");
  }

  beginBounds({ keys, levels, passNaN = this.passNaN }: JsonBounds): void {
    this.#outer.push(this.#bounds);
    const { halfPairs } = this;
    this.#set({ keys, keysLeft: keys, levels, depth: this.#depth + levels, at: this.position(), halfPairs, passNaN });
  }

  endBounds(): JsonText {
    const { at, halfPairs } = this.#bounds;
    this.#set(this.#outer.pop() ?? outerBounds());
    return this.piece(at, this.#at, this.halfPairs !== halfPairs);
  }

  takeFault(root: number): RuleFault | undefined {
    if (this.broken === undefined) return undefined;
    const { code, at, message } = this.broken;
    this.broken = undefined;
    return fault(code, pathAt(this.bytes, root, at), message);
  }

  #set(bounds: Bounds): void {
    this.#bounds = bounds;
    this.passNaN = bounds.passNaN;
  }

  #open(isObject: boolean, at: number): void {
    if (this.#depth === this.#levels.length) this.#grow(at);
    this.#levels[this.#depth++] = isObject ? this.#keys.count : ARRAY;
    if (this.#depth > this.#bounds.depth) {
      this.note("too_complex", at, `is nested deeper than ${this.#bounds.levels} levels`);
    }
  }

  #grow(at: number): void {
    if (this.#depth >= LEVELS_MAX) throw new JsonFault(`more than ${LEVELS_MAX} levels begin`, at);
    const larger = new Int32Array(4 * this.#levels.length);
    larger.set(this.#levels);
    this.#levels = larger;
  }

  #leave(at: number): void {
    const mark = this.#levels[--this.#depth] as number;
    if (mark !== ARRAY) this.#keys.dropTo(mark);
    this.#isFresh = false;
    this.#at = at;
  }

  /** Passes a key and its colon; `from` is where its quote must be. */
  #key(from: number, names: JsonNames | undefined): number {
    const { bytes, end } = this;
    if (from >= end || bytes[from] !== QUOTE) throw this.unexpected(from, "a key in quotes");
    const kinds = IN_STRING;
    let hash = HASH_SEED;
    let seen = 0;
    let at = from + 1;
    for (;;) {
      for (; at < end; at++) {
        const byte = bytes[at] as number;
        const kind = kinds[byte] as number;
        if (kind >= CLOSING) break;
        seen |= kind;
        hash = hashStep(hash, byte);
      }
      const kind = at < end ? kinds[bytes[at] as number] : 0;
      if (kind === CLOSING) break;
      if (kind !== ESCAPE) throw this.noString(at);
      seen |= this.escape(at);
      at = this.behind;
    }
    this.#keyFrom = from + 1;
    this.#keyTo = at;
    this.#keyFlags = seen;
    this.#know(hash, names);
    at = this.space(at + 1);
    if (at >= end || bytes[at] !== COLON) throw this.unexpected(at, "a colon");
    return at + 1;
  }

  /** Whether the key is one of the names, and whether its object has it already. */
  #know(rawHash: number, names: JsonNames | undefined): void {
    const from = this.#keyFrom;
    const to = this.#keyTo;
    if (this.#bounds.keysLeft <= 0) {
      this.note("too_complex", this.#bounds.at, `has more than ${this.#bounds.keys} keys at all levels together`);
      this.name = -1;
      return;
    }
    this.#bounds.keysLeft--;
    // Spelled with escapes it is the same key.
    const decoded = (this.#keyFlags & HAS_ESCAPE) === 0 ? undefined : Buffer.from(this.key());
    const hash = decoded ? hashOf(decoded) : rawHash;
    this.keyHash = hash;
    if (names)
      this.name = decoded ? names.find(decoded, 0, decoded.length, hash) : names.find(this.bytes, from, to, hash);
    // The first fault is the one that is told: there is nothing to find beside it.
    if (this.broken !== undefined) return;
    const mark = this.#levels[this.#depth - 1] as number;
    if (this.#keys.add(from, to, hash, this.#depth, mark, decoded)) return;
    this.note("invalid", to + 1, `is there twice in one object, again at byte ${from - 1}; send each key once`);
  }
}

function closing(isObject: boolean): string {
  return isObject ? 'a comma or "}"' : 'a comma or "]"';
}
