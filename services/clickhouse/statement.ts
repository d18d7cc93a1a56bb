// What kind of statement a request carries, and where its SQL ends and the rows of an INSERT begin.
import { setImmediate } from "node:timers/promises";
import { SqlSyntaxError, type SqlToken, scanSql } from "#lib/warehouse/sql.ts";
import { endpointError } from "./errors.ts";

export interface InsertTarget {
  /** The table's name without quotes, after that of its database if it was given. */
  names: string[];
  /** Absent: every column, in the table's order. */
  columns?: string[];
  /** SQL of a list of columns that is not only names: `* EXCEPT (a)`. */
  columnsSql?: string;
  /** Text of a SETTINGS clause, absent when there was none. */
  settings?: string;
  /** A word; rows.ts knows which formats there are. */
  format: string;
}

export interface Statement {
  /** The SQL without the rows that follow an INSERT … FORMAT. */
  sql: string;
  tokens: SqlToken[];
  /** First keyword, upper case. */
  keyword: string;
  /** Set when rows follow the SQL as bytes; `rows` then holds them. */
  target?: InsertTarget;
  rows: Uint8Array;
  /** Format named by a FORMAT clause. */
  format: string | undefined;
}

/** Read at one go, in about a millisecond. */
export const TOKENS_A_TURN = 2_000;
/** One costs some 100 bytes of memory while the statement runs. */
const TOKENS_MAX = 2_000_000;

export const READ_KEYWORDS = new Set(["SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "FROM", "("]);

/** True when the statement can only read, judged by its first word; the engine's readonly setting has the last one. */
export function isRead(statement: Statement): boolean {
  return READ_KEYWORDS.has(statement.keyword) && !statement.tokens.some((token) => isKeyword(token, "INSERT"));
}

/** Reads one statement from `bytes`. Throws a ClickHouseError for several statements, or none, or text beyond reading. */
export async function readStatement(bytes: Buffer): Promise<Statement> {
  try {
    return await parseStatement(bytes);
  } catch (error) {
    if (error instanceof SqlSyntaxError) throw endpointError(62, `Syntax error: ${error.message}.`);
    throw error;
  }
}

async function parseStatement(bytes: Buffer): Promise<Statement> {
  const text = bytes.toString("utf8");
  const tokens: SqlToken[] = [];
  let ended = false;
  let depth = 0;
  for (const token of scanSql(text)) {
    if (ended && token.text !== ";") {
      throw endpointError(62, "Syntax error: Multi-statements are not allowed. Send one statement a request.");
    }
    ended ||= token.kind === "symbol" && token.text === ";";
    if (!ended && tokens.push(token) % TOKENS_A_TURN === 0) await nextTurn(tokens);
    if (isSymbol(token, "(")) depth++;
    if (isSymbol(token, ")")) depth--;
    // Rows may hold anything, so nothing after FORMAT is read as SQL; VALUES are expressions, so all of them is.
    if (depth === 0 && opensRows(tokens)) return insertOfRows(bytes, text, tokens);
  }
  const first = tokens[0];
  if (first === undefined) throw endpointError(62, "Syntax error: Empty query.");
  const sql = text.slice(0, tokens.at(-1)?.end);
  assertUtf8(bytes, text);
  return { sql, tokens, keyword: keywordOf(first), rows: new Uint8Array(), format: trailingFormat(tokens) };
}

/** Other requests are served between two stretches of a long statement. */
async function nextTurn(tokens: readonly SqlToken[]): Promise<void> {
  if (tokens.length >= TOKENS_MAX) {
    throw endpointError(
      62,
      `Syntax error: The statement has more than ${TOKENS_MAX} words and signs. Send rows as INSERT … FORMAT, not VALUES.`,
    );
  }
  await setImmediate();
}

function opensRows(tokens: readonly SqlToken[]): boolean {
  const [first, last, before] = [tokens[0], tokens.at(-1), tokens.at(-2)];
  if (!isKeyword(first, "INSERT") || !isKeyword(before, "FORMAT") || last?.kind !== "word") return false;
  return tokens.length > 3 && last.text.toUpperCase() !== "VALUES";
}

function insertOfRows(bytes: Buffer, text: string, tokens: SqlToken[]): Statement {
  const end = tokens.at(-1)?.end ?? 0;
  const sql = text.slice(0, end);
  const head = Buffer.from(sql);
  if (!head.equals(bytes.subarray(0, head.length))) throw endpointError(62, "Syntax error: SQL must be UTF-8.");
  // White space and the end of the line that FORMAT stands on belong to the SQL.
  const begin = /^[ \t]*\r?\n?/.exec(bytes.subarray(head.length, head.length + 64).toString("latin1"))?.[0].length ?? 0;
  const rows = bytes.subarray(head.length + begin);
  return { sql, tokens, keyword: "INSERT", target: parseTarget(sql, tokens), rows, format: undefined };
}

/** INSERT INTO [TABLE] name[.name] [(column, …)] [SETTINGS …] FORMAT format */
function parseTarget(sql: string, tokens: readonly SqlToken[]): InsertTarget {
  let next = 1;
  const take = (word: string) => {
    if (isKeyword(tokens[next], word)) next++;
  };
  take("INTO");
  take("TABLE");
  const target: InsertTarget = { names: [nameIn(tokens[next++])], format: tokens.at(-1)?.text ?? "" };
  if (isSymbol(tokens[next], ".")) {
    target.names.push(nameIn(tokens[next + 1]));
    next += 2;
  }
  if (isSymbol(tokens[next], "(")) {
    const end = closing(tokens, next);
    const inside = tokens.slice(next + 1, end);
    if (inside.every((token, at) => (at % 2 === 0 ? isName(token) : isSymbol(token, ",")))) {
      target.columns = inside.filter(isName).map((token) => token.text);
    } else {
      target.columnsSql = sql.slice(tokens[next]?.end, tokens[end]?.start);
    }
    next = end + 1;
  }
  const settings = tokens[next];
  const formatWord = tokens[tokens.length - 2];
  if (isKeyword(settings, "SETTINGS") && settings !== undefined && formatWord !== undefined) {
    target.settings = sql.slice(settings.end, formatWord.start);
  } else if (settings !== formatWord) {
    throw unreadableInsert();
  }
  return target;
}

/** Index of the parenthesis that closes the one at `open`. */
function closing(tokens: readonly SqlToken[], open: number): number {
  let depth = 0;
  for (let at = open; at < tokens.length; at++) {
    if (isSymbol(tokens[at], "(")) depth++;
    if (isSymbol(tokens[at], ")") && --depth === 0) return at;
  }
  throw unreadableInsert();
}

function isName(token: SqlToken | undefined): boolean {
  return token?.kind === "quoted" || (token?.kind === "word" && /^[A-Za-z_]/.test(token.text));
}

function nameIn(token: SqlToken | undefined): string {
  if (token === undefined || !isName(token)) throw unreadableInsert();
  return token.text;
}

function unreadableInsert() {
  return endpointError(
    48,
    "Rows can be sent to INSERT INTO [database.]table [(column, ...)] [SETTINGS ...] FORMAT format. Anything else is not implemented here.",
  );
}

function trailingFormat(tokens: readonly SqlToken[]): string | undefined {
  for (let at = tokens.length - 2; at > 0; at--) {
    const name = tokens[at + 1];
    if (isKeyword(tokens[at], "FORMAT") && name?.kind === "word") {
      const after = tokens[at + 2];
      return after === undefined || isKeyword(after, "SETTINGS") ? name.text : undefined;
    }
  }
  return undefined;
}

function assertUtf8(bytes: Buffer, text: string): void {
  if (text.includes("\ufffd") && !Buffer.from(text).equals(bytes)) {
    throw endpointError(62, "Syntax error: SQL must be UTF-8.");
  }
}

function keywordOf(token: SqlToken): string {
  return token.kind === "word" || token.kind === "symbol" ? token.text.toUpperCase() : "";
}

/** True for the bare word, whatever its case. */
export function isKeyword(token: SqlToken | undefined, word: string): boolean {
  return token?.kind === "word" && token.text.length === word.length && token.text.toUpperCase() === word;
}

export function isSymbol(token: SqlToken | undefined, symbol: string): boolean {
  return token?.kind === "symbol" && token.text === symbol;
}
