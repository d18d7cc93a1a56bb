// A migration's statements as a server of a certain kind needs them. The files are written for one server; what another
// kind needs is put in as they are sent, so that a file and its checksum are the same everywhere. Of a cluster:
// cluster/ddl.ts.
import { type SqlToken, scanSql } from "./sql.ts";

export interface RenderedStatement {
  sql: string;
  /** once: on any node. each shard: on one node of every shard. */
  run: "once" | "each shard";
}

/** What a kind of server makes of statements. Methods throw DdlError. */
export interface Dialect {
  /** `statement` is one of a migration, {{DATABASE}} replaced by `database`. */
  render(statement: string, database: string): RenderedStatement[];
  databases(database: string): string[];
}

/** A statement of a migration cannot be made into one for this kind of server; the message says what is missing. */
export class DdlError extends Error {
  override readonly name = "DdlError";
}

/** Tokens of inserts are remembered this long, seconds: more than an outage of a weekend. */
const WINDOW_SECONDS = 604_800;

export interface Edit {
  start: number;
  end: number;
  text: string;
}

export const SINGLE_SERVER: Dialect = {
  render: (statement) => [once(statement)],
  databases: (database) => [`CREATE DATABASE IF NOT EXISTS ${database}`],
};

/** The server makes SharedMergeTree of MergeTree by itself. */
export const CLOUD: Dialect = {
  render(statement) {
    const tokens = [...scanSql(statement)];
    return [once(isCreateTable(tokens) ? edited(statement, windowEdits(statement, tokens)) : statement)];
  },
  databases: SINGLE_SERVER.databases,
};

export function isCreateTable(tokens: readonly SqlToken[]): boolean {
  return wordAt(tokens, 0) === "CREATE" && wordAt(tokens, 1) === "TABLE";
}

/** A table with a window remembers as many tokens as on one server, and for how long; one without remembers none. */
export function windowEdits(statement: string, tokens: readonly SqlToken[]): Edit[] {
  const at = tokens.findIndex(({ text }) => text === "non_replicated_deduplication_window");
  const [name, count] = [tokens[at], tokens[at + 2]];
  if (name && count) {
    const text = `replicated_deduplication_window = ${count.text}, replicated_deduplication_window_seconds = ${WINDOW_SECONDS}`;
    return [{ start: name.start, end: count.end, text }];
  }
  const none = "replicated_deduplication_window = 0";
  const settings = tokens.find((_, index) => wordAt(tokens, index) === "SETTINGS");
  if (settings) return [after(settings, ` ${none},`)];
  return [{ start: statement.length, end: statement.length, text: `\nSETTINGS ${none}` }];
}

export function wordAt(tokens: readonly SqlToken[], at: number): string {
  const token = tokens[at];
  return token?.kind === "word" ? token.text.toUpperCase() : "";
}

export function after({ end }: SqlToken, text: string): Edit {
  return { start: end, end, text };
}

export function once(sql: string): RenderedStatement {
  return { sql, run: "once" };
}

export function edited(statement: string, edits: readonly Edit[]): string {
  let text = statement;
  for (const { start, end, text: by } of edits.toSorted((a, b) => b.start - a.start)) {
    text = text.slice(0, start) + by + text.slice(end);
  }
  return text;
}
