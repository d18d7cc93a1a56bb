// JSON texts and whether a strict reader takes them (RFC 8259). "either": the RFC leaves it open, or a limit of ours.

import { BROKEN, NO_LITERALS, NO_NUMBERS, NO_SPACE, NO_STRINGS, NO_UTF8 } from "./json-texts-bad.ts";
import { LITERALS, NUMBERS, SPACED, STRINGS, STRUCTURES, UTF8 } from "./json-texts-good.ts";

export interface JsonCase {
  name: string;
  bytes: Buffer;
  verdict: "accepted" | "refused" | "either";
}

const shown = (text: string) => (text.length > 40 ? `${text.slice(0, 36)}… (${text.length})` : text);

function texts(verdict: JsonCase["verdict"], group: string, list: readonly string[]): JsonCase[] {
  return list.map((text) => ({ name: `${group}: ${JSON.stringify(shown(text))}`, bytes: Buffer.from(text), verdict }));
}

/** Bytes between the quotes of a string. */
function strings(verdict: JsonCase["verdict"], group: string, list: readonly (readonly number[])[]): JsonCase[] {
  return list.map((inner) => ({
    name: `${group}: "${inner.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}"`,
    bytes: Buffer.from([0x22, ...inner, 0x22]),
    verdict,
  }));
}

const HALF_PAIRS = [
  ...['"\\ud800"', '"\\udbff"', '"\\udc00"', '"\\udfff"', '"a\\ud83dz"', '"\\ude00\\ud83d"', '"\\ud83d\\ud83d"'],
  ...['"\\ud83d\\u0041"', '"\\ud83d😀"', '"\\uD83D\\\\uDE00"', '"\\ud83d\\n"'],
];
const MARKED = [..."1|{}|[]|null".split("|").map((text) => `\ufeff${text}`)];
const TWICE = [
  '{"a":1,"a":1}',
  '{"a":1,"b":2,"a":3}',
  '{"a":1,"\\u0061":2}',
  '{"a":{"b":1,"b":2}}',
  '[{"":0,"":0}]',
  '{"\\ud83d\\ude00":1,"😀":2}',
];
const HUGE = [
  "1e309",
  "-1e309",
  "1e400",
  "-1e999999999",
  "1e-999999999",
  "[1e400]",
  `${"9".repeat(500)}`,
  `0.${"1".repeat(500)}`,
];
const OTHER_ENCODINGS = ["utf16le", "utf16be"].map((encoding): JsonCase => {
  const bytes = Buffer.from('{"a":1}', "utf16le");
  return { name: encoding, bytes: encoding === "utf16be" ? bytes.swap16() : bytes, verdict: "refused" };
});

export const JSON_CASES: readonly JsonCase[] = [
  ...texts("accepted", "number", NUMBERS),
  ...texts("refused", "no number", NO_NUMBERS),
  ...texts("accepted", "literal", LITERALS),
  ...texts("refused", "no literal", NO_LITERALS),
  ...texts("accepted", "string", STRINGS),
  ...texts("refused", "no string", NO_STRINGS),
  ...texts("either", "half a pair", HALF_PAIRS),
  ...strings("accepted", "UTF-8", UTF8),
  ...strings("refused", "no UTF-8", NO_UTF8),
  ...texts("accepted", "white space", SPACED),
  ...texts("refused", "no white space", NO_SPACE),
  ...texts("accepted", "structure", STRUCTURES),
  ...texts("refused", "broken", BROKEN),
  ...texts("either", "byte order mark", MARKED),
  ...texts("either", "a key twice", TWICE),
  ...texts("either", "beyond a double", HUGE),
  ...OTHER_ENCODINGS,
];
