// Whose X-Forwarded-For is believed, and how much of an address is kept.
import { BlockList, isIP, isIPv4 } from "node:net";
import { networkOf, plainAddress } from "#lib/http/addresses.ts";
import type { HttpRequest } from "#lib/http/message.ts";

export const IP_MODES = ["full", "truncate", "off"] as const;
export type IpMode = (typeof IP_MODES)[number];

export interface TrustedProxies {
  /**
   * Address of the caller: that of the connection, or behind trusted proxies the last one in X-Forwarded-For that is no
   * trusted proxy. An entry that is no address ends the search: what is left of it was not written by one of ours.
   */
  clientOf(socketAddress: string, forwardedFor: string | undefined): string;
  /** `address` is one of them. */
  has(address: string): boolean;
}

const LOOPBACK = ["127.0.0.0/8", "::1/128"];

/** Why an entry of TRUSTED_PROXIES cannot be used; undefined when it can. */
export function proxyFault(entry: string): string | undefined {
  if (entry.toLowerCase() === "loopback") return undefined;
  const [address = "", prefix] = entry.split("/", 2);
  const version = isIP(address);
  const bits = prefix ?? "0";
  const isPrefix = /^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128);
  if (version !== 0 && isPrefix && entry.split("/").length <= 2) return undefined;
  return `"${entry.slice(0, 60)}" is not an address, not a range like 10.0.0.0/8 and not the word loopback`;
}

/** `list` holds addresses, CIDR ranges and `loopback`, each without a `proxyFault`. */
export function createTrustedProxies(list: readonly string[]): TrustedProxies {
  if (list.length === 0) return { clientOf: plainAddress, has: () => false };
  const trusted = new BlockList();
  for (const entry of list.flatMap((each) => (each.toLowerCase() === "loopback" ? LOOPBACK : [each]))) {
    const [address = "", prefix] = entry.split("/", 2);
    const family = isIPv4(address) ? "ipv4" : "ipv6";
    trusted.addSubnet(address, prefix === undefined ? (family === "ipv4" ? 32 : 128) : Number(prefix), family);
  }
  const has = (address: string) => isIP(address) !== 0 && trusted.check(address, isIPv4(address) ? "ipv4" : "ipv6");
  return {
    has,
    clientOf(socketAddress, forwardedFor) {
      let client = plainAddress(socketAddress);
      const hops = (forwardedFor ?? "").split(",");
      while (has(client)) {
        const hop = hopAddress(hops.pop() ?? "");
        if (hop === undefined) break;
        client = hop;
      }
      return client;
    },
  };
}

/** Some proxies add the port: 203.0.113.7:4711, [2001:db8::1]:4711. */
function hopAddress(entry: string): string | undefined {
  const text = entry.trim();
  const [, bracketed] = /^\[([^\]]+)\](?::\d+)?$/.exec(text) ?? [];
  const [, withoutPort] = /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(text) ?? [];
  const address = plainAddress(bracketed ?? withoutPort ?? text);
  return isIP(address) === 0 ? undefined : address;
}

/** What of an address is stored: all, the network (IPv4 /24, IPv6 /48), nothing. */
export function storedAddress(address: string, mode: IpMode): string {
  if (mode === "full") return address;
  if (mode === "off") return "";
  if (isIPv4(address)) return `${address.slice(0, address.lastIndexOf("."))}.0`;
  return isIP(address) === 6 ? networkOf(address, 3) : "";
}

/** Of a user agent only this much is stored: it goes into every record of a request. */
const USER_AGENT_CHARS_MAX = 512;

export interface Caller {
  /** The whole address, for limits; never stored. */
  address: string;
  /** What IP_MODE leaves of it. */
  ip: string;
  userAgent: string;
}

/** Who calls. Ask before the first await: a connection that has gone meanwhile has no address any more. */
export type CallerOf = (request: HttpRequest) => Caller;

export function createCallerOf(proxies: TrustedProxies, ipMode: IpMode): CallerOf {
  return (request) => {
    // Node joins repeated lines of this header; its types allow for an array all the same.
    const forwardedFor = request.headers["x-forwarded-for"] as string | undefined;
    const address = proxies.clientOf(request.socket.remoteAddress ?? "", forwardedFor);
    const userAgent = (request.headers["user-agent"] ?? "").slice(0, USER_AGENT_CHARS_MAX);
    return { address, ip: storedAddress(address, ipMode), userAgent };
  };
}
