// The package's IndexedDB: the queue, and claims, by which tabs that start at the same moment agree on one identity.
import { native } from "./native.ts";

export interface Database {
  /**
   * Resolves once the transaction is complete. Rejects when it has failed, with nothing of it done, and when it is not
   * complete within five seconds: it waits for another one, perhaps for ever, and may still be.
   */
  transact<T>(
    table: "queue" | "claims",
    mode: IDBTransactionMode,
    work: (store: IDBObjectStore, give: (result: T) => void) => void,
  ): Promise<T | undefined>;
}

const NAME = "millrace";
/** Browsers have had bugs that leave an open waiting for ever; events do not wait for them. */
const OPEN_MS_MAX = 2000;
const TRANSACTION_MS_MAX = 5000;
/** How close together two tabs start to be taken for one visit. */
const CLAIM_MS = 10_000;
const CLAIM_WAIT_MS_MAX = 1000;

/** Resolves with undefined where there is none: blocked, broken, or a browser without it. */
export function openDatabase(): Promise<Database | undefined> {
  const { indexedDB } = native;
  if (!indexedDB) return Promise.resolve(undefined);
  const opened = new Promise<Database | undefined>((resolve) => {
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("queue");
        request.result.createObjectStore("claims");
      };
      request.onsuccess = () => resolve(overConnection(request.result));
      request.onerror = () => resolve(undefined);
    } catch {
      // Some browsers throw instead of failing the request.
      resolve(undefined);
    }
  });
  return within(opened, OPEN_MS_MAX, () => undefined);
}

function overConnection(connection: IDBDatabase): Database {
  // A later version of the package in another tab must be able to upgrade; this page then goes on without.
  connection.onversionchange = () => connection.close();
  return {
    transact(table, mode, work) {
      const done = new Promise<Parameters<Parameters<typeof work>[1]>[0] | undefined>((resolve, reject) => {
        let result: Parameters<typeof resolve>[0];
        const transaction = connection.transaction(table, mode);
        transaction.oncomplete = () => resolve(result);
        transaction.onabort = () => reject(transaction.error);
        work(transaction.objectStore(table), (given) => {
          result = given;
        });
      });
      return within(done, TRANSACTION_MS_MAX, () => {
        throw new Error("the database does not answer");
      });
    },
  };
}

export interface Claim {
  name: "identity" | "session";
  /** What the candidate takes the place of: tabs only agree on successors of the same. */
  after: string;
  candidate: string;
}

/**
 * Of the candidates that tabs give within ten seconds, the first: every tab gets the same one. Resolves with its own
 * candidate where tabs cannot agree: no database, or one that takes longer than a second.
 */
export async function claim(
  database: Promise<Database | undefined>,
  { name, after, candidate }: Claim,
): Promise<string> {
  const winner = async () => {
    const store = await database;
    const found = await store?.transact<string>("claims", "readwrite", (claims, give) => {
      const request = claims.get(name) as IDBRequest<{ value: string; after: string; atMs: number } | undefined>;
      request.onsuccess = () => {
        const now = native.nowMs();
        const held = request.result;
        if (held?.after === after && Math.abs(now - held.atMs) < CLAIM_MS) return give(held.value);
        claims.put({ value: candidate, after, atMs: now }, name);
        give(candidate);
      };
    });
    return found ?? candidate;
  };
  // A database that fails is one that tabs cannot agree by.
  return within(
    winner().catch(() => candidate),
    CLAIM_WAIT_MS_MAX,
    () => candidate,
  );
}

/** `late` says what becomes of it after `ms`. */
function within<T>(promise: Promise<T>, ms: number, late: () => T): Promise<T> {
  let timer: ReturnType<typeof setTimeout>;
  const limit = new Promise<void>((resolve) => {
    timer = native.setTimeout(resolve, ms);
  });
  return Promise.race([promise, limit.then(late)]).finally(() => native.clearTimeout(timer));
}
