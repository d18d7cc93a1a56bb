// Texts that are no id, as the server has them (lib/identity/no-id.ts; a test compares the two).

const WORDS =
  "null nil none undefined nan (null) (none) <null> n/a unknown true false 0 -1 - {} [] anonymous guest " +
  "not_authenticated unauthenticated id distinctid distinct_id $distinct_id user_id userid anonymous_id email uuid guid " +
  "00000000-0000-0000-0000-000000000000 ffffffff-ffff-ffff-ffff-ffffffffffff";
const SPACED = ["not set", "(not set)", "[object object]", "[object undefined]", "[object null]"];

/** Blank, or the same for everybody, whatever its case and the quotes around it. */
export function isNoId(text: string): boolean {
  const trimmed = text.trim();
  const word = trimmed
    .replace(/^(["'`])(.*)\1$/s, "$2")
    .trim()
    .toLowerCase();
  return word === "" || WORDS.split(" ").includes(word) || SPACED.includes(word);
}
