// Text of IP addresses.
import { isIPv4 } from "node:net";
import { EVERY_ADDRESS } from "#lib/config/host-port.ts";

/** What Node is to listen on: every address it finds by itself, also where a machine has no IPv6; "::" would fail there. */
export function listenHost(host: string): string | undefined {
  return host === EVERY_ADDRESS ? undefined : host;
}

/** What the URL of something that listens on `host` names: the loopback address of IPv4, where it is every address, of IPv6 too. */
export function urlHost(host: string): string {
  if (host === EVERY_ADDRESS || host === "0.0.0.0" || host === "") return "127.0.0.1";
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}

/** Without what a dual-stack socket puts before an IPv4 address, and without an interface name. */
export function plainAddress(address: string): string {
  const [plain = ""] = address.split("%", 1);
  return plain.startsWith("::ffff:") && isIPv4(plain.slice(7)) ? plain.slice(7) : plain;
}

/** The first `groups` of an IPv6 address' eight groups, all others zero. */
export function networkOf(address: string, groups: number): string {
  const [head = ""] = address.toLowerCase().split("::", 1);
  const first = head === "" ? [] : head.split(":");
  // Groups after "::" count from the end: an address that is abbreviated early may have none among the first.
  const [, tail = ""] = address.toLowerCase().split("::", 2);
  const last = tail === "" ? [] : tail.split(":");
  const all = [...first, ...Array<string>(Math.max(0, 8 - first.length - last.length)).fill("0"), ...last];
  const kept = all.slice(0, groups).map((group) => group.replace(/^0+(?=.)/, ""));
  while (kept.at(-1) === "0") kept.pop();
  return `${kept.join(":")}::`;
}
