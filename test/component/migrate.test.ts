// The real migrations over the real engine: killed after every statement, run by two at once, and not undone.
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { migrate } from "#lib/warehouse/migrate.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

const DIRECTORY = fileURLToPath(new URL("../../migrations", import.meta.url));
let clickhouse: TestClickHouse;
/** What an undisturbed migration makes. */
let whole: Schema;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  await clickhouse.migrate("whole");
  whole = await schemaOf("whole");
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

type Schema = { name: string; made: string }[];

/** Tables, views and what counts as applied. */
async function schemaOf(database: string): Promise<Schema> {
  const warehouse = clickhouse.warehouse(database);
  const tables = `SELECT name, replaceAll(create_table_query, currentDatabase() || '.', '') AS made
    FROM system.tables WHERE database = currentDatabase() ORDER BY name`;
  const applied = "SELECT DISTINCT filename AS name, checksum AS made FROM schema_migrations ORDER BY name";
  return [...(await warehouse.query<Schema[0]>(tables)), ...(await warehouse.query<Schema[0]>(applied))];
}

/** What the migrating process asks for, up to its death. */
interface Mortal extends AsyncDisposable {
  readonly url: string;
  /** Statements that change something and were sent by any process so far; each of them once. */
  readonly statements: number;
  /** The next process may repeat what others did, and dies of its first statement of its own, done or only sent. */
  next(moment: "done" | "sent"): void;
}

async function startMortal(): Promise<Mortal> {
  const known = new Set<string>();
  let moment: "done" | "sent" = "done";
  let isDead = false;
  const server = createServer(async (request, response) => {
    const body = await buffer(request);
    const url = new URL(request.url ?? "/", clickhouse.url);
    const params = [...url.searchParams].filter(([name]) => name.startsWith("param_"));
    const statement = `${body.toString()} ${JSON.stringify(params)}`;
    const isNew = !/^\s*SELECT/i.test(statement) && !known.has(statement);
    if (isDead) return void request.socket.destroy();
    if (isNew) {
      known.add(statement);
      isDead = true;
      if (moment === "sent") request.socket.destroy();
    }
    const answer = await fetch(url, { method: request.method ?? "POST", body });
    const text = await answer.text();
    if (isNew) return void request.socket.destroy();
    const code = answer.headers.get("x-clickhouse-exception-code");
    response.writeHead(answer.status, code === null ? {} : { "x-clickhouse-exception-code": code }).end(text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get statements() {
      return known.size;
    },
    next(when) {
      moment = when;
      isDead = false;
    },
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

describe("migrate", () => {
  it("killed at every statement, done or only sent, and run again each time, makes what one run makes", async () => {
    await using mortal = await startMortal();
    const connection = { ...clickhouse.connection, url: mortal.url };
    for (let isDone = false; !isDone; ) {
      const before = mortal.statements;
      mortal.next(before % 2 === 0 ? "done" : "sent");
      isDone = await migrate({ connection, database: "killed", directory: DIRECTORY }).then(
        () => true,
        (error: unknown) => {
          if (mortal.statements === before) throw error;
          return false;
        },
      );
    }
    expect(mortal.statements).toBeGreaterThan(50);
    expect(await schemaOf("killed")).toEqual(whole);
  });

  it("by two at once makes what one makes", async () => {
    const one = () => migrate({ connection: clickhouse.connection, database: "two", directory: DIRECTORY });
    await Promise.all([one(), one()]);
    expect(await schemaOf("two")).toEqual(whole);
  });

  it("by the program of the release before is refused, and says which way is open; nothing is changed", async () => {
    const directory = await mkdtemp(join(tmpdir(), "millrace-migrations-"));
    try {
      const names = (await readdir(DIRECTORY)).sort();
      for (const name of names.slice(0, -1))
        await writeFile(join(directory, name), await readFile(join(DIRECTORY, name)));
      const older = migrate({ connection: clickhouse.connection, database: "whole", directory });
      await expect(older).rejects.toThrow(new RegExp(`${names.at(-1)} was applied.*older than the database.*backup`));
      expect(await schemaOf("whole")).toEqual(whole);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
