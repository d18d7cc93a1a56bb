// Which addresses a webhook may reach. An alert's URL is written by anyone who may write alerts, and posted to from inside
// the network of this process: what it can reach there is not theirs to call.
import { type LookupAddress, type LookupOptions, lookup as systemLookup } from "node:dns";
import { BlockList, isIP, isIPv4, type LookupFunction } from "node:net";
import { within } from "#lib/process/waiting.ts";

/** What is refused of IPv4, and what to call it. IANA's special-purpose registry, without what is globally reachable. */
const REFUSED_IPV4: readonly (readonly [network: string, prefix: number, kind: string])[] = [
  ["0.0.0.0", 8, "an unspecified address"],
  ["10.0.0.0", 8, "a private address"],
  ["100.64.0.0", 10, "an address behind a carrier's NAT"],
  ["127.0.0.0", 8, "a loopback address"],
  ["169.254.0.0", 16, "a link-local address"],
  ["172.16.0.0", 12, "a private address"],
  ["192.0.0.0", 24, "a reserved address"],
  ["192.0.2.0", 24, "an address for documentation"],
  ["192.88.99.0", 24, "a reserved address"],
  ["192.168.0.0", 16, "a private address"],
  ["198.18.0.0", 15, "an address for benchmarks"],
  ["198.51.100.0", 24, "an address for documentation"],
  ["203.0.113.0", 24, "an address for documentation"],
  ["224.0.0.0", 4, "a multicast address"],
  ["240.0.0.0", 4, "a reserved address"],
];

/** Within 2000::/3, outside of which every IPv6 address is refused. Teredo and 6to4 lead to the IPv4 address they hold. */
const REFUSED_IPV6: readonly (readonly [network: string, prefix: number, kind: string])[] = [
  ["2001::", 23, "a reserved or tunnel address"],
  ["2001:db8::", 32, "an address for documentation"],
  ["2002::", 16, "a tunnel address"],
  ["3fff::", 20, "an address for documentation"],
];

/** What lies outside of 2000::/3, for the message only. */
const NAMED_IPV6: readonly (readonly [network: string, prefix: number, kind: string])[] = [
  ["::", 128, "an unspecified address"],
  ["::1", 128, "a loopback address"],
  ["::ffff:0:0", 96, "an IPv4 address written as IPv6"],
  ["64:ff9b::", 96, "an address of a NAT64"],
  ["fc00::", 7, "a private address"],
  ["fe80::", 10, "a link-local address"],
  ["ff00::", 8, "a multicast address"],
];

/** Of the answer to an alert that was taken and whose webhooks will be refused. */
export const WARNING_HEADER = "x-millrace-warning";
/** The answer to whoever makes the alert waits for it. */
const LOOKUP_MS_MAX = 1_000;

type Range = { list: BlockList; kind: string };

const IPV4_RANGES = REFUSED_IPV4.map((range) => rangeOf("ipv4", ...range));
const IPV6_RANGES = [...REFUSED_IPV6, ...NAMED_IPV6].map((range) => rangeOf("ipv6", ...range));
const GLOBAL_IPV6 = rangeOf("ipv6", "2000::", 3, "").list;

function rangeOf(family: "ipv4" | "ipv6", network: string, prefix: number, kind: string): Range {
  const list = new BlockList();
  list.addSubnet(network, prefix, family);
  return { list, kind };
}

/** The webhook's host is, or resolves to, an address that it may not have. */
export class RefusedAddressError extends Error {
  override readonly name = "RefusedAddressError";
}

/** What kind of address it is that may not be called, as it follows "is"; undefined when it may. */
export function refusedKind(address: string): string | undefined {
  if (isIPv4(address)) return IPV4_RANGES.find(({ list }) => list.check(address, "ipv4"))?.kind;
  // A zone names an interface of this machine; and what is no address is not one that may be called.
  if (isIP(address) === 0 || address.includes("%")) return "no address that can be reached from everywhere";
  const kind = IPV6_RANGES.find(({ list }) => list.check(address, "ipv6"))?.kind;
  return kind ?? (GLOBAL_IPV6.check(address, "ipv6") ? undefined : "a reserved address");
}

/** Refuses a host that is an address already: no lookup is made for it. Throws RefusedAddressError. */
export function refuseAddress(hostname: string): void {
  const address = withoutBrackets(hostname);
  if (isIP(address) !== 0) refuse(address, address);
}

/** What to ask a proxy for in place of the name, which it would look up by itself. Rejects where `guardedLookup` does. */
export function checkedAddress(hostname: string, resolve?: Resolve): Promise<string> {
  const { promise, resolve: found, reject } = Promise.withResolvers<string>();
  const address = withoutBrackets(hostname);
  if (isIP(address) !== 0) found(address);
  else {
    const options: LookupOptions = { order: "ipv4first" };
    guardedLookup(resolve)(hostname, options, (error, first) => (error ? reject(error) : found(String(first))));
  }
  return promise;
}

/** Whether Node sends a request for this URL through a proxy; of ranges of addresses in NO_PROXY it alone knows. */
export function isProxied(env: NodeJS.ProcessEnv, { protocol, hostname, port }: URL): boolean {
  const isHttps = protocol === "https:";
  const proxy = isHttps ? env.https_proxy || env.HTTPS_PROXY : env.http_proxy || env.HTTP_PROXY;
  if (!proxy || !/^https?:\/\//.test(proxy)) return false;
  const host = withoutBrackets(hostname);
  const names = ["*", host, `${host}:${port || (isHttps ? 443 : 80)}`];
  const entries = (env.no_proxy || env.NO_PROXY || "").split(",").map((entry) => entry.trim().toLowerCase());
  return !entries.some((entry) => {
    if (entry.startsWith(".")) return `.${host}`.endsWith(entry);
    return names.includes(entry) || (entry.startsWith("*.") && host.endsWith(entry.slice(1)));
  });
}

/** What to tell who names this URL for webhooks that will all be refused; undefined when they may be sent, or nobody can tell. */
export async function refusalOf(post: string, resolve?: Resolve): Promise<string | undefined> {
  const hostname = URL.parse(post)?.hostname ?? "";
  try {
    refuseAddress(hostname);
    await within(LOOKUP_MS_MAX, checkedAddress(hostname, resolve));
  } catch (error) {
    // A name that cannot be looked up now may be known when the alert fires; then its fault is in the alert's history.
    if (error instanceof RefusedAddressError) return `webhooks to this address will not be sent: ${error.message}`;
  }
  return undefined;
}

function withoutBrackets(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, "");
}

function refuse(hostname: string, address: string): void {
  const kind = refusedKind(address);
  if (kind === undefined) return;
  const what = hostname === address ? address : `${hostname} resolves to ${address}, which`;
  throw new RefusedAddressError(
    `${what} is ${kind}: --webhook-allow-private (or WEBHOOK_ALLOW_PRIVATE=true, which millrace pulse does not read) allows such receivers`,
  );
}

export type Resolve = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * A lookup for a request's socket: the addresses that are checked are the ones that are connected to, so that a name
 * cannot resolve to something else in between. One refused address among several refuses the name.
 */
export function guardedLookup(resolve: Resolve = systemLookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      const fault = error ?? faultOf(hostname, addresses);
      const [first] = addresses ?? [];
      if (fault || !first) callback(fault ?? new Error(`${hostname} has no address`), "", 0);
      else if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

function faultOf(hostname: string, addresses: readonly LookupAddress[]): Error | undefined {
  try {
    for (const { address } of addresses) refuse(hostname, address);
    return undefined;
  } catch (error) {
    return error as RefusedAddressError;
  }
}
