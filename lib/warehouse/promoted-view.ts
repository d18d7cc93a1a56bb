// The view `events` with the promoted columns in it. Migrations define the view without them; what is added here is
// recognised by its prefix, so that it can be taken out again.
import { quoteIdentifier, type SqlToken, scanSql } from "./sql.ts";

/** Names of promoted columns begin with it, and no others may. */
export const PROMOTED_PREFIX = "p_";

const OPENING = new Set(["(", "[", "{"]);
const CLOSING = new Set([")", "]", "}"]);

/**
 * The view's SELECT with exactly these promoted columns at the end of its list. Undefined when it is no plain
 * SELECT … FROM table, into which they cannot be put.
 */
export function withPromotedColumns(select: string, columns: readonly string[]): string | undefined {
  const tokens = [...scanSql(select)];
  const from = outerIndexes(tokens, (token) => isWord(token, "FROM"))[0];
  const hasUnion = outerIndexes(tokens, (token) => isWord(token, "UNION")).length > 0;
  if (!isWord(tokens[0], "SELECT") || from === undefined || hasUnion) return undefined;
  const own = listItems(tokens.slice(1, from)).filter((item) => !item.at(-1)?.text.startsWith(PROMOTED_PREFIX));
  const prefix = aliasOf(tokens.slice(from + 1));
  const list = [
    ...own.map((item) => select.slice(item[0]?.start, item.at(-1)?.end)),
    ...columns.map((name) => `${prefix}${quoteIdentifier(name)} AS ${quoteIdentifier(name)}`),
  ];
  return `SELECT ${list.join(", ")} ${select.slice(tokens[from]?.start)}`;
}

/** Promoted columns that the view's SELECT lists, in its order. */
export function promotedColumnsIn(select: string): string[] {
  const tokens = [...scanSql(select)];
  const [from = tokens.length] = outerIndexes(tokens, (token) => isWord(token, "FROM"));
  const names = listItems(tokens.slice(1, from)).map((item) => item.at(-1)?.text ?? "");
  return names.filter((name) => name.startsWith(PROMOTED_PREFIX));
}

function listItems(tokens: readonly SqlToken[]): SqlToken[][] {
  const commas = outerIndexes(tokens, (token) => token.kind === "symbol" && token.text === ",");
  return [...commas, tokens.length].map((end, at) => tokens.slice(at === 0 ? 0 : (commas[at - 1] ?? 0) + 1, end));
}

/** Indexes of the tokens that are in no brackets. */
function outerIndexes(tokens: readonly SqlToken[], matches: (token: SqlToken) => boolean): number[] {
  let depth = 0;
  const found: number[] = [];
  for (const [at, token] of tokens.entries()) {
    if (token.kind === "symbol" && OPENING.has(token.text)) depth++;
    if (token.kind === "symbol" && CLOSING.has(token.text)) depth--;
    if (depth === 0 && matches(token)) found.push(at);
  }
  return found;
}

/** `e.` for `FROM database.table AS e …`; "" when the table has no alias. */
function aliasOf(tokens: readonly SqlToken[]): string {
  const as = tokens[1]?.text === "." ? 3 : 1;
  const alias = isWord(tokens[as], "AS") ? tokens[as + 1]?.text : undefined;
  return alias === undefined ? "" : `${quoteIdentifier(alias)}.`;
}

function isWord(token: SqlToken | undefined, word: string): boolean {
  return token?.kind === "word" && token.text.toUpperCase() === word;
}
