// The web origins whose pages may call.
import type { HttpRequest } from "#lib/http/message.ts";

export interface Origins {
  /** True for an origin of the list, compared as text: no wildcard, no other case, no trailing slash. */
  allows(origin: string): boolean;
  /** Entries of the list that no browser's Origin equals. */
  readonly unmatchable: readonly string[];
}

/**
 * The web origins whose pages may call. An entry that is no origin matches nothing; `null` least of all, the Origin of
 * every sandboxed frame and local file.
 */
export function createOrigins(list: readonly string[]): Origins {
  const unmatchable = list.filter((entry) => !isOrigin(entry));
  const allowed = new Set(list.filter(isOrigin));
  return { allows: (origin) => allowed.has(origin), unmatchable };
}

/** As browsers write it: scheme and host in lower case, no default port, no slash at the end. */
function isOrigin(entry: string): boolean {
  if (/^https?:/.test(entry)) return URL.parse(entry)?.origin === entry && !entry.includes("*");
  // Apps in a shell have schemes of their own: capacitor://localhost.
  return /^[a-z][a-z0-9+.-]*:\/\/[^/\s*]+$/.test(entry);
}

/** The Origin header; "" when there is none, or an empty one. */
export function originOf(request: HttpRequest): string {
  return String(request.headers.origin ?? "");
}
