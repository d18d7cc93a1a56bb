// ClickHouse's lexical rules, as far as one must know them to tell code from text: where statements end, which words are
// names, what is inside quotes. The migration runner splits files with it; the standalone endpoint's guard reads with it.
// Where the engine's lexer and this one could disagree, this one refuses: a disagreement would hide code from the guard.

export interface SqlToken {
  /** word: bare name, keyword or number. quoted: name in quotes. string: literal or here-document. */
  kind: "word" | "quoted" | "string" | "symbol";
  /** Names without their quotes and escapes, symbols as they stand; empty for strings. */
  text: string;
  /** Index of the first character, and of the first one after, in UTF-16 units. */
  start: number;
  end: number;
}

/** The text cannot be read as ClickHouse SQL. */
export class SqlSyntaxError extends Error {
  override readonly name = "SqlSyntaxError";
}

/** Each search for the end of a here-document may read the whole text. SQL that is meant has next to none that fail. */
const OPEN_DOLLARS_MAX = 16;

const WORD = /[A-Za-z0-9_$]+/y;
const BLANK = /\s/;
const OPENS_COMMENT = new Set(["-", "/", "#"]);
const LINE_COMMENT = /(?:--|\/\/|#[ !])[^\n]*/y;
const CLOSING_QUOTE: Record<string, string> = { "'": "'", '"': '"', "`": "`", "\u2018": "\u2019", "\u201c": "\u201d" };

/** Tokens of `sql` from `start` on, without white space and comments. Throws SqlSyntaxError where it cannot be read. */
export function* scanSql(sql: string, start = 0): Generator<SqlToken, void, undefined> {
  let position = skipBlank(sql, start);
  let openDollars = 0;
  while (position < sql.length) {
    const token = readToken(sql, position);
    if (token.kind !== "string" && sql.charAt(position) === "$" && ++openDollars > OPEN_DOLLARS_MAX) {
      throw new SqlSyntaxError(
        `more than ${OPEN_DOLLARS_MAX} names begin with $ (position ${position + 1}): quote them`,
      );
    }
    yield token;
    position = skipBlank(sql, token.end);
  }
}

/** Statements of a script without their semicolons, comments kept; empty ones left out. Throws SqlSyntaxError. */
export function splitStatements(script: string): string[] {
  const statements: string[] = [];
  let begin = 0;
  let hasCode = false;
  const push = (end: number) => {
    if (hasCode) statements.push(script.slice(begin, end).trim());
    hasCode = false;
  };
  for (const token of scanSql(script)) {
    if (token.kind === "symbol" && token.text === ";") {
      push(token.start);
      begin = token.end;
    } else {
      hasCode = true;
    }
  }
  push(script.length);
  return statements;
}

/** A name, whatever is in it, as SQL has it. */
export function quoteIdentifier(name: string): string {
  return `\`${escaped(name)}\``;
}

/** A string literal, for statements that take no parameters (defaults of columns). */
export function quoteText(text: string): string {
  return `'${escaped(text)}'`;
}

function escaped(text: string): string {
  return text.replaceAll(/[\\'`]/g, "\\$&").replaceAll("\0", "\\0");
}

function skipBlank(sql: string, start: number): number {
  let position = start;
  for (;;) {
    while (position < sql.length && BLANK.test(sql.charAt(position))) position++;
    if (!OPENS_COMMENT.has(sql.charAt(position))) return position;
    LINE_COMMENT.lastIndex = position;
    if (LINE_COMMENT.test(sql)) {
      position = LINE_COMMENT.lastIndex;
    } else if (sql.startsWith("/*", position)) {
      // Not nested, as in ClickHouse.
      const close = sql.indexOf("*/", position + 2);
      if (close < 0) throw new SqlSyntaxError("a comment opened with /* is not closed");
      position = close + 2;
    } else {
      return position;
    }
  }
}

function readToken(sql: string, start: number): SqlToken {
  const first = sql.charAt(start);
  const closing = CLOSING_QUOTE[first];
  if (closing !== undefined) return readQuoted(sql, start, closing);
  if (first === "$") {
    const end = hereDocumentEnd(sql, start);
    if (end !== undefined) return { kind: "string", text: "", start, end };
  }
  WORD.lastIndex = start;
  if (WORD.test(sql)) return { kind: "word", text: sql.slice(start, WORD.lastIndex), start, end: WORD.lastIndex };
  if (first < " " || first > "~") {
    const code = first.charCodeAt(0).toString(16).padStart(4, "0");
    throw new SqlSyntaxError(`character U+${code} outside quotes at position ${start + 1}`);
  }
  return { kind: "symbol", text: first, start, end: start + 1 };
}

function readQuoted(sql: string, start: number, closing: string): SqlToken {
  // Typographic quotes know neither escapes nor doubling.
  const plain = closing > "~";
  let position = start + 1;
  for (;;) {
    const character = sql.charAt(position);
    if (character === "") throw new SqlSyntaxError(`a quote opened at position ${start + 1} is not closed`);
    if (character === "\\" && !plain) {
      position += 2;
    } else if (character === closing) {
      if (plain || sql.charAt(position + 1) !== closing) break;
      position += 2;
    } else {
      position++;
    }
  }
  const end = position + 1;
  if (closing === "'" || closing === "\u2019") return { kind: "string", text: "", start, end };
  return { kind: "quoted", text: unescapeName(sql.slice(start + 1, position), closing), start, end };
}

/** `$tag$ … $tag$`; the engine takes anything up to the next dollar sign as the tag. */
function hereDocumentEnd(sql: string, start: number): number | undefined {
  const tagEnd = sql.indexOf("$", start + 1);
  if (tagEnd < 0) return undefined;
  const tag = sql.slice(start, tagEnd + 1);
  const close = sql.indexOf(tag, tagEnd + 1);
  return close < 0 ? undefined : close + tag.length;
}

function unescapeName(name: string, quote: string): string {
  return name
    .replaceAll(quote + quote, quote)
    .replace(/\\x([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replace(/\\(.)/gs, "$1");
}
