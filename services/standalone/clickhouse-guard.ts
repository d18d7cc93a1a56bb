// What the endpoint refuses before the engine sees it. The engine's own grants (clickhouse-access.ts) refuse nearly all of
// this again; the guard is there for what they do not know (INTO OUTFILE, the scalar function file) and says why in words.
import type { SqlToken } from "#lib/warehouse/sql.ts";
import { endpointError } from "./clickhouse-errors.ts";
import { isKeyword, type Statement } from "./clickhouse-statement.ts";

/** Functions, table functions and dictionary sources that reach files, the network or other programs. */
const REFUSED_FUNCTION =
  /^(file|filesystem|url|remote|remotesecure|s3|gcs|oss|cosn|hdfs|hive|executable|mysql|postgresql|mongodb|redis|odbc|jdbc|sqlite|cassandra|http|https|ytsaurus|kafka|nats|rabbitmq|eval|input|disk|catboostevaluate|arrow_?flight|arrowstream|fuzzquery|loop|azure\w*|iceberg\w*|deltalake\w*|hudi\w*|paimon\w*|ai(classify|embed|extract|generate|translate)\w*|\w*cluster|clusterallreplicas)$/;

/** Functions that end in "cluster" and stay inside. */
const ALLOWED_FUNCTION = new Set(["h3polygontocellswithcontainment"]);

const ENGINE =
  /^((Replacing|Summing|Aggregating|Collapsing|VersionedCollapsing|Graphite|Coalescing)?MergeTree|Memory|Null|Log|TinyLog|StripeLog|Set|Join|Buffer|Merge|View|MaterializedView|GenerateRandom|Atomic)$/i;

const REFUSED_STATEMENTS = new Set(["SYSTEM", "BACKUP", "RESTORE", "GRANT", "REVOKE", "EXECUTE", "USE", "COPY"]);
const REFUSED_OBJECTS = [
  "USER",
  "ROLE",
  "QUOTA",
  "PROFILE",
  "POLICY",
  "DICTIONARY",
  "FUNCTION",
  "COLLECTION",
  "WORKLOAD",
];

/** Throws a ClickHouseError (ACCESS_DENIED) naming what is refused in the statement. */
export function assertAllowed(statement: Statement, params: ReadonlyMap<string, string>): void {
  const { tokens, keyword } = statement;
  if (REFUSED_STATEMENTS.has(keyword)) throw refused(`${keyword} statements`);
  if (["CREATE", "ALTER", "ATTACH"].includes(keyword)) assertObject(tokens);
  for (let at = 0; at < tokens.length; at++) {
    assertWord(tokens, at);
    assertClause(keyword, tokens, at);
  }
  // A bound {name:Identifier} becomes a name in the SQL, so it is held to the rules for names.
  for (const value of params.values()) {
    if (nameOf(value) === "file") throw refused("the identifier file as a parameter");
  }
}

function assertWord(tokens: readonly SqlToken[], at: number): void {
  const token = tokens[at];
  if (token?.kind !== "word" && token?.kind !== "quoted") return;
  const name = nameOf(token.text);
  const called = tokens[at + 1]?.kind === "symbol" && tokens[at + 1]?.text === "(";
  if (called && REFUSED_FUNCTION.test(name) && !ALLOWED_FUNCTION.has(name) && !opensColumnList(tokens, at)) {
    throw refused(`the function ${token.text}`);
  }
  // arrayMap(file, …) and APPLY(file) call it without a parenthesis of its own.
  if (name === "file" && !called && !namesSomething(tokens[at - 1])) {
    throw refused("a bare file (a column of that name can be written as table.file)");
  }
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
  if (keyword === "ATTACH" && isKeyword(token, "FROM") && next?.kind === "string")
    throw refused("ATTACH … FROM a path");
  if (keyword === "INSERT" && isKeyword(token, "FUNCTION") && at < 4) throw refused("INSERT INTO FUNCTION");
  if (keyword === "CREATE" || keyword === "ATTACH") assertEngine(tokens, at);
}

function assertEngine(tokens: readonly SqlToken[], at: number): void {
  if (!isKeyword(tokens[at], "ENGINE")) return;
  const assigned = tokens[at + 1]?.text === "=";
  const engine = tokens[at + (assigned ? 2 : 1)];
  // A column may be called engine: only a name can follow the keyword, and a type never is one of the known engines.
  if (engine === undefined || engine.kind === "symbol") return;
  if (assigned ? !ENGINE.test(engine.text) : REFUSED_ENGINE.test(engine.text))
    throw refused(`the engine ${engine.text}`);
}

const REFUSED_ENGINE =
  /^(File|FileLog|URL|S3\w*|GCS|OSS|COSN|HDFS|Azure\w*|Kafka|NATS|RabbitMQ|MySQL|Materialized\w*SQL|PostgreSQL|MongoDB|Redis|ODBC|JDBC|SQLite|Hive|Executable\w*|EmbeddedRocksDB|Distributed|Remote\w*|Dictionary|Filesystem|Backup|DataLakeCatalog|Iceberg\w*|DeltaLake\w*|Hudi|Paimon\w*|YTsaurus|KeeperMap)$/i;

/** CREATE [OR REPLACE] USER and the like: the object's name comes before the object's kind is known to be harmless. */
function assertObject(tokens: readonly SqlToken[]): void {
  const object = tokens.slice(1, 5).find((token) => REFUSED_OBJECTS.some((word) => isKeyword(token, word)));
  const harmless = tokens
    .slice(1, 5)
    .findIndex((token) => ["TABLE", "VIEW", "DATABASE"].some((word) => isKeyword(token, word)));
  if (object !== undefined && (harmless < 0 || tokens.indexOf(object) <= harmless)) {
    throw refused(`${tokens[0]?.text} ${object.text}`);
  }
}

function nameOf(text: string): string {
  return text.replace(/[\\`"]/g, "").toLowerCase();
}

function refused(what: string) {
  return endpointError(497, `This endpoint refuses ${what}: it must not reach files, other machines or programs.`);
}
