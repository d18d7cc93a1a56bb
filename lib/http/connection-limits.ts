// How many connections a port takes in all, and how many of them from one address: without the second bound one machine
// could hold every place without a key, by connections that do nothing.
import type net from "node:net";
import type { Logger } from "#lib/process/log.ts";
import { networkOf, plainAddress } from "./addresses.ts";

export interface ConnectionLimits {
  maxConnections: number;
  /** Most of them from one IPv4 address or one IPv6 /64; absent or 0: a quarter of them, but at least 16. */
  maxPerAddress?: number | undefined;
  /** Addresses that speak for many callers, such as trusted proxies: only the first bound is theirs. */
  isShared?: ((address: string) => boolean) | undefined;
}

export interface RefusalOptions {
  /** Names the port in the log: its setting. */
  setting: string;
  /** Absent: nothing is logged. */
  logger?: Logger | undefined;
  onRefused?(reason: "over_limit" | "over_address_limit"): void;
}

const PER_ADDRESS_MIN = 16;
/** Refusals come in floods: one line a minute says enough. */
const LOG_EVERY_MS = 60_000;

/**
 * Refuses what is over the limits and hands every other connection to `serve`, and to those who listened for connections
 * before: a refused one costs no TLS handshake. Call it last, before the server listens.
 */
export function limitConnections(
  server: net.Server,
  limits: ConnectionLimits,
  { setting, logger, onRefused }: RefusalOptions,
  serve: (socket: net.Socket) => void = () => {},
): void {
  const { maxConnections, isShared = () => false } = limits;
  const maxPerAddress = limits.maxPerAddress || Math.max(PER_ADDRESS_MIN, Math.ceil(maxConnections / 4));
  const open = new Map<string, number>();
  let loggedAtMs = Number.NEGATIVE_INFINITY;

  function refuse(reason: "over_limit" | "over_address_limit", address: string | undefined): void {
    onRefused?.(reason);
    if (performance.now() - loggedAtMs < LOG_EVERY_MS) return;
    loggedAtMs = performance.now();
    const what = reason === "over_limit" ? "too many connections" : "too many connections from one address";
    logger?.warn({ port: setting, address, maxConnections, maxPerAddress }, `${what}: further ones are closed`);
  }

  const listeners = server.listeners("connection");
  server.removeAllListeners("connection");
  server.maxConnections = maxConnections;
  server.on("drop", (dropped?: net.DropArgument) => refuse("over_limit", dropped?.remoteAddress));
  server.on("connection", (socket: net.Socket) => {
    const address = plainAddress(socket.remoteAddress ?? "");
    if (!isShared(address)) {
      const holder = address.includes(":") ? `${networkOf(address, 4)}/64` : address;
      const held = open.get(holder) ?? 0;
      if (held >= maxPerAddress) {
        socket.destroy();
        refuse("over_address_limit", holder);
        return;
      }
      open.set(holder, held + 1);
      socket.once("close", () => {
        const left = (open.get(holder) ?? 1) - 1;
        if (left === 0) open.delete(holder);
        else open.set(holder, left);
      });
    }
    serve(socket);
    for (const listener of listeners) listener.call(server, socket);
  });
}
