// Events on the device until the server has answered for them: in IndexedDB, in localStorage where there is none, and in
// localStorage as well when a page closes before IndexedDB had the time.
import type { Database } from "./database.ts";

export interface Row {
  uuid: string;
  /** The event as it is sent. */
  json: string;
}

export interface Listed {
  rows: Row[];
  /**
   * Whether a row that was kept and is not among them was answered for. Not where pages clear the storage that the rows
   * are in, as many do at a logout.
   */
  isComplete: boolean;
}

export interface QueueStore {
  /** Resolves with the ids that had to make room; rejects when the rows were not kept (quota, storage blocked). */
  put(rows: readonly Row[]): Promise<string[]>;
  /** The oldest rows, of all tabs and of pages that have closed. */
  list(most: number): Promise<Listed>;
  remove(uuids: readonly string[]): Promise<void>;
  /** Keeps what fits before it returns, for a page that is about to go. False: not all of it. */
  stash(rows: readonly Row[]): boolean;
}

export interface QueueStoreOptions {
  database: Promise<Database | undefined>;
  storage: Storage | undefined;
  /** Keeps the rows of different servers and keys apart. */
  target: string;
  /** The oldest rows of a target go beyond it. */
  maxRows: number;
}

export function createQueueStore({ database, storage, target, maxRows }: QueueStoreOptions): QueueStore {
  const rowsBefore = `millrace.q ${target} `;
  const range = () => IDBKeyRange.bound(`${target} `, `${target} ~`);
  const keyOf = (uuid: string) => `${target} ${uuid}`;
  const uuidOf = (key: string) => key.slice(-36);

  function keys(prefix: string): string[] {
    const found: string[] = [];
    for (let i = 0; storage && i < storage.length; i++) {
      const key = storage.key(i);
      if (key?.startsWith(prefix)) found.push(key);
    }
    return found.sort();
  }

  function putInStorage(rows: readonly Row[]): string[] {
    if (!storage) throw new Error("there is no storage");
    for (const { uuid, json } of rows) storage.setItem(rowsBefore + uuid, json);
    const held = keys(rowsBefore);
    const evicted = held.slice(0, Math.max(0, held.length - maxRows));
    for (const key of evicted) storage.removeItem(key);
    return evicted.map(uuidOf);
  }

  function putInDatabase(db: Database, rows: readonly Row[]): Promise<string[] | undefined> {
    return db.transact<string[]>("queue", "readwrite", (queue, give) => {
      for (const { uuid, json } of rows) queue.put(json, keyOf(uuid));
      const count = queue.count(range());
      count.onsuccess = () => {
        const excess = count.result - maxRows;
        if (excess <= 0) return;
        const oldest = queue.getAllKeys(range(), excess) as IDBRequest<string[]>;
        oldest.onsuccess = () => {
          for (const key of oldest.result) queue.delete(key);
          give(oldest.result.map(uuidOf));
        };
      };
    });
  }

  async function remove(uuids: readonly string[]): Promise<void> {
    for (const uuid of uuids) storage?.removeItem(rowsBefore + uuid);
    const db = await database;
    await db?.transact("queue", "readwrite", (queue) => {
      for (const uuid of uuids) queue.delete(keyOf(uuid));
    });
  }

  return {
    remove,
    async put(rows) {
      const db = await database;
      return db ? ((await putInDatabase(db, rows)) ?? []) : putInStorage(rows);
    },
    async list(most) {
      const found = new Map<string, string>();
      for (const key of keys(rowsBefore).slice(0, most)) found.set(uuidOf(key), storage?.getItem(key) ?? "");
      const db = await database;
      await db?.transact("queue", "readonly", (queue) => {
        const held = queue.getAllKeys(range(), most) as IDBRequest<string[]>;
        const jsons = queue.getAll(range(), most) as IDBRequest<string[]>;
        jsons.onsuccess = () => {
          for (const [i, key] of held.result.entries()) found.set(uuidOf(key), jsons.result[i] as string);
        };
      });
      const rows = [...found].map(([uuid, json]) => ({ uuid, json })).sort((a, b) => (a.uuid < b.uuid ? -1 : 1));
      return { rows: rows.slice(0, most), isComplete: db !== undefined && rows.length < most };
    },
    stash(rows) {
      try {
        putInStorage(rows);
        return true;
      } catch {
        // Full or blocked. What can be sent while the page closes still is.
        return false;
      }
    },
  };
}

/** For pages that must leave nothing on the device. */
export const NO_STORE: QueueStore = {
  put: () => Promise.reject(new Error("nothing is stored")),
  list: () => Promise.resolve({ rows: [], isComplete: false }),
  remove: () => Promise.resolve(),
  stash: () => false,
};
