// What the endpoint refuses before the engine sees it. The engine's own grants (access.ts) refuse nearly all of
// this again; the guard is there for what they do not know (INTO OUTFILE, the scalar function file) and says why in words.
import { setImmediate } from "node:timers/promises";
import type { SqlToken } from "#lib/warehouse/sql.ts";
import { DATABASE_ENGINES, isAmong, TABLE_ENGINES } from "./allowed.ts";
import { endpointError } from "./errors.ts";
import { isKeyword, isSymbol, READ_KEYWORDS, type Statement, TOKENS_A_TURN } from "./statement.ts";

/** Functions, table functions and dictionary sources that reach files, the network or other programs. */
const REFUSED_FUNCTION =
  /^(file|filesystem|url|remote|remotesecure|s3|gcs|oss|cosn|hdfs|hive|executable|mysql|postgresql|mongodb|redis|odbc|jdbc|sqlite|cassandra|http|https|ytsaurus|kafka|nats|rabbitmq|eval|input|disk|catboostevaluate|arrow_?flight|arrowstream|fuzzquery|loop|azure\w*|iceberg\w*|deltalake\w*|hudi\w*|paimon\w*|ai(classify|embed|extract|generate|translate)\w*|\w*cluster|clusterallreplicas)$/;

/** Functions that end in "cluster" and stay inside. */
const ALLOWED_FUNCTION = new Set(["h3polygontocellswithcontainment"]);

/** Statements that are run; what begins with another word is no SQL of this endpoint. */
const STATEMENTS = new Set([
  ...READ_KEYWORDS,
  ...["INSERT", "CREATE", "ALTER", "ATTACH", "DETACH", "DROP", "UNDROP", "TRUNCATE", "RENAME", "EXCHANGE"],
  ...["OPTIMIZE", "CHECK", "KILL", "DELETE", "UPDATE"],
]);

/** Refused by name; every other word gets a syntax error. */
const REFUSED_STATEMENTS = new Set(["SYSTEM", "BACKUP", "RESTORE", "GRANT", "REVOKE", "EXECUTE", "COPY"]);

const LOST: Readonly<Record<string, string>> = {
  USE: "Send database=NAME with it.",
  SET: "Send the setting with each request, as NAME=VALUE in the URL, or in a SETTINGS clause.",
  "CREATE TEMPORARY": "Create a table, and drop it when it is no longer needed.",
};

/** What a CREATE, ATTACH or ALTER may be about. */
const OBJECTS =
  /^(CREATE( OR REPLACE)?( TEMPORARY)?( TABLE| VIEW| MATERIALIZED VIEW| DATABASE| INDEX| UNIQUE INDEX)|ATTACH (TABLE|VIEW|MATERIALIZED VIEW|DATABASE)|ALTER( TEMPORARY)? (TABLE|DATABASE))\b/;

/** Words that follow an expression: after one of them, `engine` was a column. None is the name of an engine to refuse. */
const AFTER_EXPRESSION = new Set([
  ...["AS", "FROM", "PREWHERE", "WHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "OFFSET", "FETCH"],
  ...["SETTINGS", "UNION", "EXCEPT", "INTERSECT", "COMMENT", "WITH", "ASC", "DESC", "NULLS", "AND", "OR", "NOT", "IN"],
  ...["IS", "LIKE", "ILIKE", "BETWEEN", "ON", "USING", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "GLOBAL"],
]);

/**
 * Throws a ClickHouseError (ACCESS_DENIED) naming what is refused in the statement. `foreign` are names of functions to
 * refuse beside those known here, in lower case.
 */
export async function assertAllowed(
  statement: Pick<Statement, "tokens" | "keyword">,
  params: ReadonlyMap<string, string>,
  foreign: ReadonlySet<string> = new Set(),
): Promise<void> {
  const { tokens, keyword } = statement;
  if (Object.hasOwn(LOST, keyword)) assertLasting(statement);
  if (REFUSED_STATEMENTS.has(keyword)) throw refused(`${keyword} statements`);
  if (!STATEMENTS.has(keyword)) throw endpointError(62, `Syntax error: ${keyword} begins no statement.`);
  if (["CREATE", "ALTER", "ATTACH"].includes(keyword)) assertObject(tokens, keyword);
  if (keyword === "ATTACH") assertShort(tokens);
  assertEngines(tokens, keyword);
  for (let at = 0; at < tokens.length; at++) {
    if (at % TOKENS_A_TURN === TOKENS_A_TURN - 1) await setImmediate();
    assertWord(tokens, at, foreign);
    assertClause(keyword, tokens, at);
  }
  for (const name of boundIdentifiers(tokens)) assertIdentifier(params.get(name) ?? "");
  assertLasting(statement);
}

/** Refuses what ends with the request, since the next one has a session of its own. */
function assertLasting({ tokens, keyword }: Pick<Statement, "tokens" | "keyword">): void {
  const isTemporary = keyword === "CREATE" && tokens.slice(1, 4).some((token) => isKeyword(token, "TEMPORARY"));
  const lost = isTemporary ? "CREATE TEMPORARY" : keyword;
  if (!Object.hasOwn(LOST, lost)) return;
  throw endpointError(48, `${lost} has no effect here: each request has a session of its own. ${LOST[lost]}`);
}

/** Names of the parameters that become names in the SQL: {name:Identifier}. Every other value stays a value. */
function boundIdentifiers(tokens: readonly SqlToken[]): string[] {
  return tokens.flatMap((token, at) =>
    isSymbol(tokens[at - 1], "{") && isSymbol(tokens[at + 1], ":") && isKeyword(tokens[at + 2], "IDENTIFIER")
      ? [token.text]
      : [],
  );
}

/** Held to the rules for names. An escape could spell a name that is refused. */
function assertIdentifier(value: string): void {
  if (value.includes("\\")) throw refused("a backslash in an identifier that is a parameter");
  if (nameOf(value) === "file") throw refused("the identifier file as a parameter");
}

/** For the text of a stored definition, as the engine writes it: every function and engine in it must be allowed. */
export function assertDefinition(tokens: readonly SqlToken[], foreign: ReadonlySet<string>): void {
  assertObject(tokens, "ATTACH");
  assertEngines(tokens, "ATTACH");
  for (let at = 0; at < tokens.length; at++) {
    // Quoted names that are not called are columns here.
    if (tokens[at]?.kind === "word" || isCalled(tokens, at)) assertWord(tokens, at, foreign);
  }
}

function assertWord(tokens: readonly SqlToken[], at: number, foreign: ReadonlySet<string>): void {
  const token = tokens[at];
  if (token?.kind !== "word" && token?.kind !== "quoted") return;
  const name = nameOf(token.text);
  const called = isCalled(tokens, at);
  const known = REFUSED_FUNCTION.test(name) && !ALLOWED_FUNCTION.has(name);
  if (called && (known || foreign.has(name)) && !opensColumnList(tokens, at)) {
    throw refused(`the function ${token.text}`);
  }
  // arrayMap(file, …) and APPLY(file) call it without a parenthesis of its own.
  if (name === "file" && !called && !namesSomething(tokens[at - 1])) {
    throw refused("a bare file (a column of that name can be written as table.file)");
  }
}

function isCalled(tokens: readonly SqlToken[], at: number): boolean {
  return isSymbol(tokens[at + 1], "(");
}

/** INSERT INTO url (a, b) and CREATE TABLE url (…): a table that is named like a function. */
function opensColumnList(tokens: readonly SqlToken[], at: number): boolean {
  const before = tokens[at - 1];
  if (before?.kind === "symbol" && before.text === ".") return true;
  const first = tokens[0];
  return (
    (isKeyword(before, "INTO") && isKeyword(first, "INSERT")) ||
    (isKeyword(first, "CREATE") && isKeyword(before, "TABLE"))
  );
}

function namesSomething(before: SqlToken | undefined): boolean {
  if (before?.kind === "symbol") return before.text === ".";
  return ["AS", "FROM", "INTO", "TABLE", "JOIN", "COLUMN"].some((word) => isKeyword(before, word));
}

function assertClause(keyword: string, tokens: readonly SqlToken[], at: number): void {
  const [token, next] = [tokens[at], tokens[at + 1]];
  if (isKeyword(token, "INTO") && isKeyword(next, "OUTFILE")) throw refused("INTO OUTFILE");
  if (isKeyword(token, "FROM") && isKeyword(next, "INFILE")) throw refused("FROM INFILE");
  if (keyword === "INSERT" && isKeyword(token, "FUNCTION") && at < 4) throw refused("INSERT INTO FUNCTION");
  // Several statements in one: each would have to be judged by its own first word.
  if (isKeyword(token, "PARALLEL") && isKeyword(next, "WITH") && !isModifier(tokens[at + 2])) {
    throw refused("PARALLEL WITH");
  }
}

/** ORDER BY parallel WITH FILL: a column of that name. */
function isModifier(token: SqlToken | undefined): boolean {
  return ["FILL", "TIES", "TOTALS", "ROLLUP", "CUBE"].some((word) => isKeyword(token, word));
}

/**
 * ENGINE = name and ENGINE name, wherever they stand: the name must be on the list. Without `=`, a column may be called
 * engine, but only within parentheses or before a word that continues an expression.
 */
function assertEngines(tokens: readonly SqlToken[], keyword: string): void {
  if (keyword !== "CREATE" && keyword !== "ATTACH") return;
  const engines = tokens.slice(0, 4).some((token) => isKeyword(token, "DATABASE")) ? DATABASE_ENGINES : TABLE_ENGINES;
  let depth = 0;
  for (const [at, token] of tokens.entries()) {
    if (isSymbol(token, "(")) depth++;
    if (isSymbol(token, ")")) depth--;
    if (!isKeyword(token, "ENGINE")) continue;
    const assigned = isSymbol(tokens[at + 1], "=");
    const engine = tokens[at + (assigned ? 2 : 1)];
    // A string is compared with a column: it cannot name an engine.
    if (engine === undefined || engine.kind === "string" || (!assigned && isColumn(engine, depth))) continue;
    if ((engine.kind !== "word" && engine.kind !== "quoted") || !isAmong(engines, engine.text)) {
      throw refused(`the engine ${engine.text || "without a name"}`);
    }
  }
}

function isColumn(next: SqlToken, depth: number): boolean {
  if (depth > 0 || next.kind === "symbol") return true;
  return next.kind === "word" && AFTER_EXPRESSION.has(next.text.toUpperCase());
}

/** CREATE, ATTACH and ALTER are for tables, views and databases; users, functions, dictionaries and the like are not. */
function assertObject(tokens: readonly SqlToken[], keyword: string): void {
  const head = tokens.slice(0, 6).map((token) => (token.kind === "word" ? token.text.toUpperCase() : "?"));
  if (OBJECTS.test(head.join(" "))) return;
  const object = head.slice(1).find((word) => !["OR", "REPLACE", "TEMPORARY"].includes(word));
  throw refused(`${keyword} ${object === undefined || object === "?" ? "of this kind" : object}`);
}

/** ATTACH takes back what was detached; with a definition it would make a thing whose SELECT nobody analysed. */
function assertShort(tokens: readonly SqlToken[]): void {
  const defines = (token: SqlToken) =>
    isSymbol(token, "(") || ["AS", "ENGINE", "FROM", "TO", "UUID", "REFRESH"].some((word) => isKeyword(token, word));
  if (tokens.slice(2).some(defines)) throw refused("ATTACH with a definition");
}

function nameOf(text: string): string {
  return text.replace(/[\\`"]/g, "").toLowerCase();
}

function refused(what: string) {
  return endpointError(497, `This endpoint refuses ${what}: it must not reach files, other machines or programs.`);
}
