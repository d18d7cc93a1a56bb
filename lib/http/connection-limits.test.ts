import { EventEmitter } from "node:events";
import type net from "node:net";
import { expect, it } from "vitest";
import { type ConnectionLimits, limitConnections } from "./connection-limits.ts";

/** Which of connections from these addresses, all held open, are served. */
function served(addresses: readonly string[], limits: ConnectionLimits): boolean[] {
  const server = new EventEmitter() as net.Server;
  const taken = new Set<net.Socket>();
  limitConnections(server, limits, { setting: "PORT" }, (socket) => taken.add(socket));
  return addresses.map((remoteAddress) => {
    const socket = Object.assign(new EventEmitter(), { remoteAddress, destroy: () => {} }) as unknown as net.Socket;
    server.emit("connection", socket);
    return taken.has(socket);
  });
}

it.each([
  ["one IPv4 address, however it is written", ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"], [true, false, true]],
  ["one IPv6 /64", ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"], [true, false, true]],
  ["a link-local address on any interface", ["fe80::1%eth0", "fe80::2%eth1", "::1"], [true, false, true]],
])("%s is one holder", (_case, addresses, expected) => {
  expect(served(addresses, { maxConnections: 100, maxPerAddress: 1 })).toEqual(expected);
});

it.each([
  [10_000, 2_500],
  [300, 75],
  [3, 16],
])("of %i connections the share is %i", (maxConnections, share) => {
  const answers = served(Array<string>(share + 1).fill("192.0.2.1"), { maxConnections });
  expect(answers.indexOf(false)).toBe(share);
});
