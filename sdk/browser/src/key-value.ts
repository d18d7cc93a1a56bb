// Where identity, session and registered properties live: synchronous, shared by the tabs of an origin.
import { native } from "./native.ts";
import type { InitOptions } from "./types.ts";

export interface KeyValue {
  get(key: string): string | undefined;
  set(key: string, value: string): void;
  remove(key: string): void;
}

const COOKIE_MAX_AGE_SECONDS = 365 * 24 * 3600;

export function createKeyValue(persistence: NonNullable<InitOptions["persistence"]> | "none"): KeyValue {
  if (persistence.startsWith("localStorage") && native.localStorage && accepts(overStorage(native.localStorage))) {
    return withMemory(overStorage(native.localStorage));
  }
  if (persistence === "localStorage+cookie" && accepts(COOKIES)) return withMemory(COOKIES);
  return overMap(new Map());
}

function accepts(store: KeyValue): boolean {
  const key = "millrace.probe";
  try {
    store.set(key, "1");
    const kept = store.get(key) === "1";
    store.remove(key);
    return kept;
  } catch {
    // Blocked by settings, or full: not usable either way.
    return false;
  }
}

function overStorage(storage: Storage): KeyValue {
  return {
    get: (key) => storage.getItem(key) ?? undefined,
    set: (key, value) => storage.setItem(key, value),
    remove: (key) => storage.removeItem(key),
  };
}

function overMap(map: Map<string, string>): KeyValue {
  return { get: (key) => map.get(key), set: (key, value) => map.set(key, value), remove: (key) => map.delete(key) };
}

const writeCookie = (key: string, value: string, maxAge: number) => {
  // biome-ignore lint/suspicious/noDocumentCookie: the Cookie Store API is asynchronous, and absent from plain http pages
  document.cookie = `${encodeURIComponent(key)}=${encodeURIComponent(value)}; path=/; max-age=${maxAge}; SameSite=Lax`;
};

const COOKIES: KeyValue = {
  get(key) {
    const prefix = `${encodeURIComponent(key)}=`;
    const found = document.cookie.split("; ").find((cookie) => cookie.startsWith(prefix));
    return found === undefined ? undefined : decodeURIComponent(found.slice(prefix.length));
  },
  set(key, value) {
    writeCookie(key, value, COOKIE_MAX_AGE_SECONDS);
    if (COOKIES.get(key) !== value) throw new Error("the browser did not take the cookie");
  },
  remove: (key) => writeCookie(key, "", 0),
};

/** What cannot be written (quota, a cookie too large) still holds for the life of the page. */
function withMemory(store: KeyValue): KeyValue {
  const unwritten = new Map<string, string>();
  return {
    get(key) {
      const value = unwritten.get(key);
      if (value !== undefined) return value;
      try {
        return store.get(key);
      } catch {
        // Storage taken away while the page is open, or a cookie that is not ours: as if nothing were stored.
        return undefined;
      }
    },
    set(key, value) {
      try {
        store.set(key, value);
        unwritten.delete(key);
      } catch {
        unwritten.set(key, value);
      }
    },
    remove(key) {
      unwritten.delete(key);
      try {
        store.remove(key);
      } catch {
        // Storage taken away while the page is open: nothing of it can be read either.
      }
    },
  };
}

/** An object stored as JSON; undefined when there is none, or something else. */
export function readObject(store: KeyValue, key: string): Record<string, unknown> | undefined {
  const text = store.get(key);
  if (text === undefined) return undefined;
  try {
    const value = native.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    // Damaged, or another program's: as if it were not there, and it is overwritten.
    return undefined;
  }
}
