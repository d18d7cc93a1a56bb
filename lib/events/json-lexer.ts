// The tokens of JSON (RFC 8259) in bytes: each method passes one and returns the place behind it, or throws JsonFault.
import { isUtf8 } from "node:buffer";
import { AsciiTexts } from "./ascii-texts.ts";
import { CLOSING, ESCAPE, firstNotUtf8, hexUnit, IN_STRING, SHORT_ESCAPE, withoutHalfPairs } from "./json-bytes.ts";
import type { JsonText } from "./json-cursor.ts";
import { JsonFault, shownKey } from "./json-fault.ts";
import type { RuleCode } from "./rule-fault.ts";

const SPACE = 0x20;
const PLUS = 0x2b;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const BACKSLASH = 0x5c;
const LOWER_E = 0x65;
const LOWER_U = 0x75;
/** By their first byte. */
const WORDS: (Buffer | undefined)[] = Array(256).fill(undefined);
for (const word of ["true", "false", "null"]) WORDS[word.charCodeAt(0)] = Buffer.from(word);
const NOT_FINITE = ["NaN", "Infinity", "-Infinity"].map((word) => Buffer.from(word));

/** What a string has, as flags. */
export const HAS_NON_ASCII = 1;
export const HAS_ESCAPE = 2;
export const HAS_HALF_PAIR = 4;

export class JsonLexer {
  protected bytes: Buffer = Buffer.alloc(0);
  protected end = 0;
  private texts = new AsciiTexts(this.bytes, 0);
  /** Of the string that was passed last. */
  protected flags = 0;
  /** The place behind the escape that was passed last. */
  protected behind = 0;
  /** Escaped halves of surrogate pairs so far. */
  protected halfPairs = 0;
  /** NaN and infinities break a rule, not the text. */
  protected passNaN = false;
  /** The first rule that was broken. */
  protected broken: { code: RuleCode; at: number; message: string } | undefined;

  protected begin(bytes: Uint8Array, from: number, to: number): void {
    this.bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.texts = new AsciiTexts(this.bytes, to);
    this.end = to;
    this.broken = undefined;
    const text = from === 0 && to === bytes.length ? this.bytes : this.bytes.subarray(from, to);
    if (!isUtf8(text)) throw new JsonFault("the bytes are not UTF-8", from + firstNotUtf8(text));
    if (text[0] === 0xef && text[1] === 0xbb && text[2] === 0xbf) {
      throw new JsonFault("there is a byte order mark", from);
    }
  }

  protected note(code: RuleCode, at: number, message: string): void {
    this.broken ??= { code, at, message };
  }

  protected space(from: number): number {
    const { bytes, end } = this;
    let at = from;
    while (at < end) {
      const byte = bytes[at] as number;
      if (byte > SPACE || (byte !== SPACE && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) break;
      at++;
    }
    return at;
  }

  /** `from` is the place of the first character; returns that of the closing quote. */
  protected string(from: number): number {
    const { bytes, end } = this;
    const kinds = IN_STRING;
    let at = from;
    let seen = 0;
    for (;;) {
      // Four at a time: three quarters of the branches gone, in what most bytes of a body are in.
      for (const fourBefore = end - 4; at <= fourBefore; at += 4) {
        const four =
          (kinds[bytes[at] as number] as number) |
          (kinds[bytes[at + 1] as number] as number) |
          (kinds[bytes[at + 2] as number] as number) |
          (kinds[bytes[at + 3] as number] as number);
        if (four >= CLOSING) break;
        seen |= four;
      }
      for (; at < end; at++) {
        const kind = kinds[bytes[at] as number] as number;
        if (kind >= CLOSING) break;
        seen |= kind;
      }
      const kind = at < end ? kinds[bytes[at] as number] : 0;
      if (kind === CLOSING) {
        this.flags = seen;
        return at;
      }
      if (kind !== ESCAPE) throw this.noString(at);
      seen |= this.escape(at);
      at = this.behind;
    }
  }

  /** Flags of the escape at `at`; `behind` is the place behind it. */
  protected escape(at: number): number {
    const byte = at + 1 < this.end ? (this.bytes[at + 1] as number) : 0;
    if (byte !== LOWER_U) {
      if (SHORT_ESCAPE[byte] === 1) {
        this.behind = at + 2;
        return HAS_ESCAPE;
      }
      throw this.unexpected(at + 1, 'one of "\\/bfnrtu after a backslash');
    }
    const unit = this.unit(at);
    this.behind = at + 6;
    if (unit < 0xd800 || unit > 0xdfff) return HAS_ESCAPE;
    if (unit < 0xdc00 && this.bytes[at + 6] === BACKSLASH && this.bytes[at + 7] === LOWER_U) {
      const low = this.unit(at + 6);
      if (low >= 0xdc00 && low <= 0xdfff) {
        this.behind = at + 12;
        return HAS_ESCAPE;
      }
    }
    this.halfPairs++;
    return HAS_ESCAPE | HAS_HALF_PAIR;
  }

  protected unit(at: number): number {
    const unit = at + 6 <= this.end ? hexUnit(this.bytes, at + 2) : -1;
    if (unit < 0) throw this.unexpected(Math.min(at + 2, this.end), "four hexadecimal digits after \\u");
    return unit;
  }

  protected number(from: number): number {
    const { bytes, end } = this;
    let at = bytes[from] === MINUS ? from + 1 : from;
    if (at < end && bytes[at] === ZERO) at++;
    else {
      const first = at;
      while (at < end && (bytes[at] as number) <= NINE && (bytes[at] as number) >= ZERO) at++;
      if (at === first) return this.notFinite(from, "a digit", at);
    }
    if (at < end && bytes[at] === POINT) at = this.digits(at + 1);
    if (at < end && ((bytes[at] as number) | 0x20) === LOWER_E) {
      at++;
      if (at < end && (bytes[at] === PLUS || bytes[at] === MINUS)) at++;
      at = this.digits(at);
    }
    return at;
  }

  protected literal(from: number): number {
    const word = WORDS[this.bytes[from] as number];
    return word && this.isWord(word, from) ? from + word.length : this.notFinite(from, "a value", from);
  }

  /** `place` is where something else should be. */
  private notFinite(from: number, expected: string, place: number): number {
    for (const word of NOT_FINITE) {
      if (!this.isWord(word, from)) continue;
      if (!this.passNaN)
        throw new JsonFault(`${word.toString()} is no number of JSON, which has finite ones only,`, from);
      this.note("invalid", from, `is ${word.toString()}, which JSON has not; send null or leave it out`);
      return from + word.length;
    }
    throw this.unexpected(place, expected);
  }

  private isWord(word: Buffer, from: number): boolean {
    if (from + word.length > this.end) return false;
    for (let i = 0; i < word.length; i++) if (this.bytes[from + i] !== word[i]) return false;
    return true;
  }

  private digits(from: number): number {
    const { bytes, end } = this;
    let at = from;
    while (at < end && (bytes[at] as number) <= NINE && (bytes[at] as number) >= ZERO) at++;
    if (at === from) throw this.unexpected(at, "a digit");
    return at;
  }

  /** Characters [from, to) of a string with these flags. */
  protected decode(from: number, to: number, flags: number): string {
    if (flags === 0) return this.texts.cut(from, to);
    if (flags === HAS_NON_ASCII) return this.bytes.toString("utf8", from, to);
    return JSON.parse(this.bytes.toString("utf8", from - 1, to + 1)) as string;
  }

  protected piece(from: number, to: number, hasHalfPair: boolean): JsonText {
    if (!hasHalfPair) return { bytes: this.bytes, from, to };
    const bytes = Buffer.from(withoutHalfPairs(this.bytes.toString("utf8", from, to)));
    return { bytes, from: 0, to: bytes.length };
  }

  protected unexpected(at: number, expected: string): JsonFault {
    if (at >= this.end) return new JsonFault(`the text ends where ${expected} should be,`, this.end);
    const shown = shownKey(this.bytes.toString("utf8", at, Math.min(at + 4, this.end)).slice(0, 1));
    return new JsonFault(`${JSON.stringify(shown)} where ${expected} should be`, at);
  }

  /** Why the string cannot go on at `at`. */
  protected noString(at: number): JsonFault {
    if (at >= this.end) return this.unexpected(at, "the quote that ends a string");
    const code = (this.bytes[at] as number).toString(16).padStart(4, "0");
    return new JsonFault(`the control character U+${code.toUpperCase()} stands unescaped in a string`, at);
  }
}
