// What the browser gave us, taken when this module loads: page scripts that replace it later do not see the events.
// Everything is optional: the package is imported on servers too, and privacy settings take parts of a browser away.

const scope = globalThis as typeof globalThis & Partial<Window>;

function bound<K extends keyof typeof globalThis>(name: K): (typeof globalThis)[K] | undefined {
  const value: unknown = scope[name];
  return typeof value === "function" ? value.bind(scope) : undefined;
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    // Reading the property alone throws where storage is blocked: the same as not having it.
    return undefined;
  }
}

const nav = scope.navigator as Navigator | undefined;
const locks = attempt(() => nav?.locks);

export const native = {
  fetch: bound("fetch"),
  setTimeout: bound("setTimeout") as typeof setTimeout,
  clearTimeout: bound("clearTimeout") as typeof clearTimeout,
  queueMicrotask: bound("queueMicrotask") as typeof queueMicrotask,
  sendBeacon: nav?.sendBeacon?.bind(nav),
  requestLock: locks?.request.bind(locks) as LockManager["request"] | undefined,
  randomValues: scope.crypto?.getRandomValues.bind(scope.crypto),
  nowMs: Date.now,
  /** Milliseconds that only go forward. */
  monotonicMs: performance.now.bind(performance),
  stringify: JSON.stringify,
  parse: JSON.parse as (text: string) => unknown,
  AbortController: scope.AbortController,
  Blob: scope.Blob,
  Response: scope.Response,
  CompressionStream: scope.CompressionStream as typeof CompressionStream | undefined,
  /** Firefox before 133 has fetch without it. */
  hasKeepalive: typeof Request === "function" && "keepalive" in Request.prototype,
  indexedDB: attempt(() => scope.indexedDB),
  localStorage: attempt(() => scope.localStorage),
  sessionStorage: attempt(() => scope.sessionStorage),
};

export const isOffline = (): boolean => nav?.onLine === false;
