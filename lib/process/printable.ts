// Text from records and errors, made harmless for a terminal: what callers sent may hold escape sequences, line breaks
// or characters that turn the direction of reading around.

const HARMFUL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/gu;

/** On one line; characters that do more than show themselves are written as \uXXXX. */
export function printable(text: string): string {
  return text.replace(HARMFUL, escaped);
}

/** Printable, in quotes, those within escaped. */
export function quoted(text: string): string {
  return printable(JSON.stringify(text));
}

/** Printable, cut to `charsMax`. */
export function shortened(text: string, charsMax: number): string {
  const shown = printable(text.slice(0, charsMax));
  return text.length > charsMax ? `${shown}…` : shown;
}

/** JSON in which strings show nothing but themselves; `indent` as JSON.stringify has it. */
export function printableJson(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, undefined, indent);
  return text.replace(HARMFUL, (character) => (character === "\n" ? character : escaped(character)));
}

export function printableTime(ms: number): string {
  return new Date(ms).toISOString();
}

function escaped(character: string): string {
  let text = "";
  for (let at = 0; at < character.length; at += 1) {
    text += `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`;
  }
  return text;
}
