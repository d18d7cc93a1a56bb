// What kind of statement a request carries, and where its SQL ends and the rows of an INSERT begin.
import { setImmediate } from "node:timers/promises";
import { SqlSyntaxError, type SqlToken, scanSql } from "#lib/warehouse/sql.ts";
import { endpointError } from "./errors.ts";

interface InsertTarget {
  table: string;
  /** Absent: every column, in the table's order. */
  columns?: string[];
  /** Text of a SETTINGS clause, absent when there was none. */
  settings?: string;
  format: RawFormat;
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

/** Formats whose rows chdb takes as bytes. */
const RAW_FORMATS = [
  "JSONEachRow",
  "JSONCompactEachRow",
  "CSV",
  "CSVWithNames",
  "TSV",
  "TabSeparated",
  "TSVWithNames",
  "TabSeparatedWithNames",
] as const;
type RawFormat = (typeof RAW_FORMATS)[number];

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
  const rows = bytes.subarray(head.length);
  const target = parseTarget(sql, tokens);
  return { sql, tokens, keyword: "INSERT", target, rows: cleanRows(rows, target.format), format: undefined };
}

/** INSERT INTO [TABLE] name[.name] [(column, …)] [SETTINGS …] FORMAT format */
function parseTarget(sql: string, tokens: readonly SqlToken[]): InsertTarget {
  const format = RAW_FORMATS.find((known) => known === tokens.at(-1)?.text);
  if (format === undefined) {
    const known = RAW_FORMATS.join(", ");
    throw endpointError(73, `Format ${tokens.at(-1)?.text} is not taken for rows here. Use one of: ${known}.`);
  }
  let next = 1;
  const take = (word: string) => {
    if (isKeyword(tokens[next], word)) next++;
  };
  take("INTO");
  take("TABLE");
  const names = [plainName(tokens[next++])];
  while (tokens[next]?.text === "." && tokens[next]?.kind === "symbol") {
    names.push(plainName(tokens[next + 1]));
    next += 2;
  }
  const target: InsertTarget = { table: names.join("."), format };
  if (tokens[next]?.text === "(") {
    target.columns = [];
    do target.columns.push(plainName(tokens[++next]));
    while (tokens[++next]?.text === ",");
    if (tokens[next++]?.text !== ")") throw unreadableInsert();
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

function plainName(token: SqlToken | undefined): string {
  // The engine's interface for bytes takes no other names.
  if (token === undefined || token.kind === "symbol" || !/^\w+$/.test(token.text)) throw unreadableInsert();
  return token.text;
}

function unreadableInsert() {
  return endpointError(
    48,
    "Rows can be sent to INSERT INTO [database.]table [(column, ...)] [SETTINGS ...] FORMAT format, with names of letters, digits and underscores. Anything else is not implemented here.",
  );
}

/**
 * The engine reads up to the first empty line as rows and what follows as SQL of its own. An empty line means nothing
 * between JSON rows and is data in CSV and TSV; neither may reach it.
 */
function cleanRows(rows: Buffer, format: RawFormat): Uint8Array {
  let [begin, end] = [/^[ \t]*\r?\n/.exec(rows.subarray(0, 64).toString("latin1"))?.[0].length ?? 0, rows.length];
  if (format.startsWith("JSON")) {
    const blank = (byte: number | undefined) => byte === 0x0a || byte === 0x0d || byte === 0x20 || byte === 0x09;
    while (begin < end && blank(rows[begin])) begin++;
    while (end > begin && blank(rows[end - 1])) end--;
  }
  const clean = rows.subarray(begin, end);
  if (clean[0] === 0x0a || clean.includes("\n\n")) {
    throw endpointError(
      27,
      `The rows hold an empty line, which cannot be taken in ${format} here. Remove or escape it.`,
    );
  }
  return clean;
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
