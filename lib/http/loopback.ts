// Which addresses only this machine can reach, and which requests come under a name that is not this machine's.
import { isIP } from "node:net";

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/;

/** Whether only this machine can reach what listens on the address. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/**
 * Whether a request to a port on loopback comes under somebody else's name: any web page can send requests to this machine
 * under a name of its own that resolves to it. Names without a dot are nobody's to give away.
 */
export function isForeignName(hostHeader: string | undefined, listensOn: string): boolean {
  if (!isLoopback(bareName(listensOn))) return false;
  const name = bareName(hostHeader ?? "");
  return name.includes(".") && !isLoopback(name);
}

/** A Host header's name in lower case: without port, brackets and a dot at its end. */
export function bareName(host: string): string {
  const [, bracketed] = /^\[(.*)\](?::\d+)?$/.exec(host) ?? [];
  const [, named = host] = /^([^:]*)(?::\d+)?$/.exec(host) ?? [];
  return (bracketed ?? named).toLowerCase().replace(/\.$/, "");
}

/**
 * Whether the page that sends the request came from this port itself, under a name that no other site can have: an address,
 * localhost or a name without a dot.
 */
export function isOwnPage({ origin, host = "" }: { origin?: string | undefined; host?: string | undefined }): boolean {
  if (origin === undefined || URL.parse(origin)?.host !== host.toLowerCase()) return false;
  const name = bareName(host);
  return isLoopback(name) || !name.includes(".") || isIP(name) !== 0;
}
