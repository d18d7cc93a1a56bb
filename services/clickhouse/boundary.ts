// The guard's lists, compared with what the engine says: the functions it has, how it reads a definition, and what exists
// after one. A statement that the guard misread meets the lists again here.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { quoteIdentifier, quoteText, type SqlToken, scanSql } from "#lib/warehouse/sql.ts";
import { DATABASE_ENGINES, DISK, isAmong, TABLE_ENGINES, TABLE_FUNCTIONS } from "./allowed.ts";
import { endpointError } from "./errors.ts";
import { assertAllowed, assertDefinition } from "./guard.ts";
import type { Statement } from "./statement.ts";

/** Runs a statement with rights of its own; results are in the format JSON. */
type Run = (sql: string) => Promise<{ json<T>(): T }>;

interface Boundary {
  /** Throws ACCESS_DENIED before the statement has run. */
  assertAllowed(statement: Statement, params: ReadonlyMap<string, string>): Promise<void>;
  /** After a statement that may have made something: drops what may not exist, and throws ACCESS_DENIED if there was any. */
  assertStorages(statement: Statement): Promise<void>;
}

const MAKES = new Set(["CREATE", "ATTACH"]);
const BUILT_IN = ["system", "information_schema", "INFORMATION_SCHEMA"];

export async function createBoundary(run: Run): Promise<Boundary> {
  const rows = async <Row>(sql: string) => (await run(sql)).json<{ data: Row[] }>().data;
  // The engine opens the database default as an overlay of its tables and of every path there is: EXISTS TABLE `/etc/passwd`
  // would tell. Attached again, it is its tables alone. What a crash leaves in between is what the next start finds.
  const [overlay] = await rows<{ uuid: string }>(
    "SELECT uuid FROM system.databases WHERE name = 'default' AND engine = 'Overlay'",
  );
  if (overlay !== undefined) {
    await run("DETACH DATABASE default");
    await run(`ATTACH DATABASE default UUID ${quoteText(overlay.uuid)} ENGINE = Atomic`);
  }
  const functions = await rows<{ name: string }>("SELECT name FROM system.table_functions");
  const foreign = new Set(
    functions.filter(({ name }) => !isAmong(TABLE_FUNCTIONS, name)).map(({ name }) => name.toLowerCase()),
  );

  return {
    async assertAllowed(statement, params) {
      await assertAllowed(statement, params, foreign);
      if (!MAKES.has(statement.keyword)) return;
      // The engine's own reading of the text, in the one spelling that it writes.
      const [formatted] = await rows<{ sql: string }>(
        `SELECT formatQuerySingleLineOrNull(${quoteText(statement.sql)}) AS sql`,
      );
      // What it cannot read, it cannot run: the statement will fail with its own message.
      if (formatted?.sql == null) return;
      await assertAllowed({ tokens: [...scanSql(formatted.sql)], keyword: statement.keyword }, params, foreign);
    },

    async assertStorages({ keyword }) {
      if (!MAKES.has(keyword)) return;
      const databases = await rows<{ name: string; engine: string }>(
        `SELECT name, engine FROM system.databases WHERE engine NOT IN (${list(DATABASE_ENGINES)})`,
      );
      // Before tables are listed, since listing those of a foreign database could reach other machines.
      for (const { name } of databases) await run(`DROP DATABASE ${quoteIdentifier(name)} SYNC`);
      const tables = await rows<{ database: string; name: string; engine: string }>(
        `SELECT database, name, engine FROM system.tables WHERE database NOT IN (${list(BUILT_IN)})
         AND (engine NOT IN (${list(TABLE_ENGINES)}) OR storage_policy NOT IN ('', '${DISK}'))`,
      );
      for (const { database, name } of tables) {
        await run(`DROP TABLE ${quoteIdentifier(database)}.${quoteIdentifier(name)} SYNC`);
      }
      const [first] = [...databases, ...tables];
      if (first === undefined) return;
      throw endpointError(
        497,
        `This endpoint refuses storage of the engine ${first.engine}: ${first.name} was dropped.`,
      );
    },
  };
}

function list(names: readonly string[]): string {
  return names.map(quoteText).join(", ");
}

/**
 * Throws when a definition below the data directory holds an engine or a function that may not exist. For the time before
 * the engine opens the directory: it starts to run what it finds, refreshable views for instance, while it opens.
 */
export function assertDefinitions(directory: string): void {
  for (const file of definitionFiles(directory)) {
    try {
      assertDefinition([...definitionTokens(file)], new Set());
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`${file} defines what must not run here: ${reason} Move the file away, then start again.`, {
        cause: error,
      });
    }
  }
}

function definitionTokens(file: string): Iterable<SqlToken> {
  return scanSql(readFileSync(file, "utf8"));
}

/** metadata/*.sql, metadata/DATABASE/*.sql and store/xyz/UUID/*.sql. */
function definitionFiles(directory: string): string[] {
  return ["metadata", "store"].flatMap((place) =>
    [0, 1, 2].flatMap((depth) => entries(join(directory, place), depth).filter((path) => path.endsWith(".sql"))),
  );
}

function entries(directory: string, depth: number): string[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
  const paths = names.map((name) => join(directory, name));
  return depth === 0 ? paths : paths.flatMap((path) => entries(path, depth - 1));
}
