// One tab sends at a time, so that no two of them send the same stored events.
import { native } from "./native.ts";
import { uuidv7 } from "./uuid.ts";

type Work<T> = () => Promise<T>;

const LEASE_MS = 15_000;
const SETTLE_MS = 30;
const LOOK_MS = 300;

/**
 * Runs work while no other tab runs work of this name: under a Web Lock, else (plain http, where there are none) under a
 * lease in localStorage, which two tabs can get at the same moment; the server then removes the double. A tab that dies
 * keeps the lease for 15 seconds.
 */
export async function oneAtATime<T>(name: string, storage: Storage | undefined, work: Work<T>): Promise<T> {
  if (!native.requestLock) return storage ? underLease(name, storage, work) : work();
  let hasStarted = false;
  try {
    return await native.requestLock(name, () => {
      hasStarted = true;
      return work();
    });
  } catch (error) {
    if (hasStarted) throw error;
    // Sandboxed documents have the function and may not use it. They share their storage with nobody.
    return work();
  }
}

async function underLease<T>(name: string, storage: Storage, work: Work<T>): Promise<T> {
  const key = `${name}.lease`;
  const mine = uuidv7();
  for (;;) {
    const [owner, until] = (storage.getItem(key) ?? "").split(" ");
    const left = Number(until) - native.nowMs();
    if (owner === mine) break;
    // A lease further ahead than any is given for is one of a clock that has been set back.
    const isFree = !(left > 0 && left <= LEASE_MS);
    if (isFree && !tryWrite(storage, key, mine)) break;
    await new Promise((resolve) => native.setTimeout(resolve, isFree ? SETTLE_MS : LOOK_MS));
  }
  try {
    return await work();
  } finally {
    if (storage.getItem(key)?.startsWith(mine)) storage.removeItem(key);
  }
}

function tryWrite(storage: Storage, key: string, mine: string): boolean {
  try {
    storage.setItem(key, `${mine} ${native.nowMs() + LEASE_MS}`);
    return true;
  } catch {
    // Full: better two tabs sending than none.
    return false;
  }
}
