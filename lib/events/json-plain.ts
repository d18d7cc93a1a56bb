// JsonCursor by JSON.parse: what json-scanner.ts is compared with, and the way around it (PLAIN_JSON). Values are written
// anew, digits kept; a key that is there twice is not seen (the last one counts), nor is NaN passed.
import { isUtf8 } from "node:buffer";
import { firstNotUtf8, withoutHalfPairs } from "./json-bytes.ts";
import type { JsonBounds, JsonCursor, JsonKind, JsonText } from "./json-cursor.ts";
import { JsonFault, shownKey } from "./json-fault.ts";
import { hashOf, type JsonNames } from "./json-keys.ts";
import { fault, type RuleFault } from "./rule-fault.ts";

// V8's source access, which TypeScript's library does not list yet.
const { parse, rawJSON, isRawJSON } = JSON as unknown as {
  parse(text: string, reviver: (key: string, value: unknown, context: { source: string }) => unknown): unknown;
  rawJSON(text: string): { rawJSON: string };
  isRawJSON(value: unknown): value is { rawJSON: string };
};

interface Level {
  members: [key: string, value: unknown][];
  next: number;
}

export function createPlainCursor(): JsonCursor {
  return new PlainCursor();
}

class PlainCursor implements JsonCursor {
  name = -1;
  #value: unknown;
  #levels: Level[] = [];
  #bounds: { depth: number; keysLeft: number; bounds: JsonBounds; path: string[]; value: unknown }[] = [];
  #broken: { code: "too_complex"; path: string[]; message: string } | undefined;

  open(bytes: Uint8Array, from = 0, to = bytes.length): void {
    const text = bytes.subarray(from, to);
    if (!isUtf8(text)) throw new JsonFault("the bytes are not UTF-8", from + firstNotUtf8(text));
    this.#levels = [];
    this.#bounds = [];
    this.#broken = undefined;
    try {
      // Not TextDecoder: a byte order mark is no JSON.
      this.#value = parse(Buffer.from(text).toString(), (_key, value, { source }) =>
        typeof value === "number" ? rawJSON(source) : value,
      );
    } catch (error) {
      // A SyntaxError, or a RangeError of texts that are nested too deep for the stack.
      throw new JsonFault(`${(error as Error).message},`, from);
    }
  }

  kind(): JsonKind {
    const value = this.#value;
    if (value === null) return "null";
    if (isRawJSON(value)) return "number";
    if (Array.isArray(value)) return "array";
    return typeof value as "object" | "string" | "boolean";
  }

  enter(): void {
    this.#levels.push({ members: Object.entries(this.#value as object), next: 0 });
    this.#look(this.#levels.length, 0);
  }

  nextMember(names: JsonNames): boolean {
    if (!this.nextItem()) return false;
    this.#look(0, 1);
    this.name = names.indexOf(this.key().toWellFormed());
    return true;
  }

  get keyHash(): number {
    return hashOf(Buffer.from(this.key()));
  }

  key(): string {
    const { members, next } = this.#levels.at(-1) as Level;
    return members[next - 1]?.[0] ?? "";
  }

  keyText(): JsonText {
    return textIn(JSON.stringify(this.key()));
  }

  nextItem(): boolean {
    const level = this.#levels.at(-1) as Level;
    const member = level.members[level.next++];
    if (member) this.#value = member[1];
    else this.#levels.pop();
    return member !== undefined;
  }

  text(): string {
    return this.#value as string;
  }

  textJson(): JsonText {
    return textIn(JSON.stringify(this.#value));
  }

  skip(): void {
    this.#walk(this.#value, this.#levels.length + 1);
  }

  slice(): JsonText {
    this.skip();
    return textIn(JSON.stringify(this.#value));
  }

  close(): void {
    // JSON.parse has seen to it.
  }

  beginBounds(bounds: JsonBounds): void {
    const depth = this.#levels.length + bounds.levels;
    this.#bounds.push({ depth, keysLeft: bounds.keys, bounds, path: this.#path(), value: this.#value });
  }

  endBounds(): JsonText {
    return textIn(JSON.stringify(this.#bounds.pop()?.value));
  }

  takeFault(root: number): RuleFault | undefined {
    const broken = this.#broken;
    this.#broken = undefined;
    return broken && fault(broken.code, broken.path.slice(root, root + 4).join("."), broken.message);
  }

  /** Here a place is told by its level. */
  position(): number {
    return this.#levels.length;
  }

  #walk(value: unknown, depth: number): void {
    if (typeof value !== "object" || value === null || isRawJSON(value) || this.#broken) return;
    const values = Object.values(value) as unknown[];
    this.#look(depth, Array.isArray(value) ? 0 : values.length);
    for (const each of values) this.#walk(each, depth + 1);
  }

  #look(depth: number, keys: number): void {
    const innermost = this.#bounds.at(-1);
    if (!innermost) return;
    const { levels, keys: most } = innermost.bounds;
    if (depth > innermost.depth) this.#note(this.#path(), `is nested deeper than ${levels} levels`);
    innermost.keysLeft -= keys;
    if (innermost.keysLeft < 0) this.#note(innermost.path, `has more than ${most} keys at all levels together`);
  }

  #note(path: string[], message: string): void {
    this.#broken ??= { code: "too_complex", path, message };
  }

  #path(): string[] {
    return this.#levels.map(({ members, next }) => shownKey(members[next - 1]?.[0] ?? ""));
  }
}

function textIn(text: string): JsonText {
  const bytes = Buffer.from(withoutHalfPairs(text));
  return { bytes, from: 0, to: bytes.length };
}
