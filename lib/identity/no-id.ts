// Texts that stand where an id should be, and are the same for everybody: what programs write for a value they do not
// have, and the names of fields. As ids they would make one person of strangers.

export const NO_IDS: ReadonlySet<string> = new Set([
  ...[
    "null",
    "nil",
    "none",
    "undefined",
    "nan",
    "(null)",
    "(none)",
    "<null>",
    "n/a",
    "unknown",
    "not set",
    "(not set)",
  ],
  ...["true", "false", "0", "-1", "-", "{}", "[]", "[object object]", "[object undefined]", "[object null]"],
  ...["anonymous", "guest", "not_authenticated", "unauthenticated"],
  ...["id", "distinctid", "distinct_id", "$distinct_id", "user_id", "userid", "anonymous_id", "email", "uuid", "guid"],
  ...["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
]);
/** The longest of them is 36 characters; with quotes and blanks around it, not many more. */
const CHARS_MAX = 60;

/** Case, quotes and blanks around it make no id of it. The empty text is no id either way, and not counted as one here. */
export function isNoId(text: string): boolean {
  if (text.length > CHARS_MAX) return false;
  const word = unquoted(text.trim()).trim().toLowerCase();
  return NO_IDS.has(word) || (word === "" && text !== "");
}

function unquoted(text: string): string {
  const [first, last] = [text[0], text.at(-1)];
  const isQuoted = text.length > 1 && first === last && (first === '"' || first === "'" || first === "`");
  return isQuoted ? text.slice(1, -1) : text;
}
