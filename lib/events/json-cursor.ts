// How Millrace reads JSON: member by member, with every value it does not need handed out as the text that was sent.
// json-scanner.ts does it over the bytes; json-plain.ts, by JSON.parse, is what the scanner is compared with.
import type { JsonNames } from "./json-keys.ts";
import type { RuleFault } from "./rule-fault.ts";

export type JsonKind = "object" | "array" | "string" | "number" | "boolean" | "null";

/** Text of one JSON value within bytes that are UTF-8; nobody writes to them. */
export interface JsonText {
  bytes: Buffer;
  from: number;
  to: number;
}

export interface JsonBounds {
  /** Keys of all objects together. */
  keys: number;
  /** Levels of objects and arrays, the value at the cursor being the first. */
  levels: number;
  /** NaN and infinities, as some libraries write them, break a rule instead of the text: the value alone is invalid. */
  passNaN?: boolean;
}

/**
 * A place within one JSON text, before a value unless said otherwise. Every method that passes a value checks it, and
 * throws JsonFault for what is no JSON: nothing after it can be read. What is JSON and breaks a rule (a bound, a key that
 * is there twice) is kept in `takeFault`, so that what follows can still be read.
 */
export interface JsonCursor {
  /** Begins at the first value. Throws JsonFault when the bytes are empty or not UTF-8. */
  open(bytes: Uint8Array, from?: number, to?: number): void;
  kind(): JsonKind;
  /** Into the object or array at the cursor; the caller has asked for its kind. */
  enter(): void;
  /** To the value of the object's next member; false behind its end. */
  nextMember(names: JsonNames): boolean;
  /** Which of the names the member has; -1: none of them. */
  readonly name: number;
  /** `hashOf` the member's key, however it is spelled. */
  readonly keyHash: number;
  /** The member's key. Ask before its value is passed. */
  key(): string;
  /** The member's key as it was sent, quotes included. Ask before its value is passed. */
  keyText(): JsonText;
  /** To the array's next item; false behind its end. */
  nextItem(): boolean;
  /** Passes a string. */
  text(): string;
  /** The string that `text` passed last, as `slice` has it. */
  textJson(): JsonText;
  /** Passes a value of any kind. */
  skip(): void;
  /** Passes a value of any kind; half a surrogate pair in it is written as U+FFFD, the rest is as it was sent. */
  slice(): JsonText;
  /** Nothing but white space may follow. */
  close(): void;
  /** Bounds of the value at the cursor, until `endBounds`. They may be nested. */
  beginBounds(bounds: JsonBounds): void;
  /** Text of the value that was bounded, once it has been passed; as `slice` has it. */
  endBounds(): JsonText;
  /** First rule that was broken since the last call; its field is a path from `root`, as `position` gave it. */
  takeFault(root: number): RuleFault | undefined;
  position(): number;
}

/** The value's text. */
export function textOf({ bytes, from, to }: JsonText): string {
  return bytes.toString("utf8", from, to);
}
