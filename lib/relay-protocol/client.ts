// A relay that any program can embed: give it collectors, and it answers the server's polls for as long as it lives.
import { sleepUnless } from "#lib/process/waiting.ts";
import { type Collector, createCollectorSet, gotLine } from "./client-collectors.ts";
import { openConnection, type ServerAddress, type ServerConnection } from "./client-connection.ts";
import { createOverrides } from "./client-overrides.ts";
import { textFault } from "./lines.ts";
import { parseOverride } from "./override.ts";

export interface RelayClientOptions extends ServerAddress {
  /** Becomes the tag `host` of every point. No control characters; no empty text. */
  id: string;
  /** For servers with RELAY_TOKEN. */
  token?: string | undefined;
  /** How long one collector may take; without its value the others are sent. Default 10,000 ms. */
  collectTimeoutMs?: number | undefined;
  /** Bounds of the pause before connecting again. Default 1,000 to 30,000 ms. */
  reconnectMs?: { min: number; max: number } | undefined;
  onConnected?(): void;
  /** The connection was lost or could not be made; it is tried again after `retryMs`. */
  onDisconnected?(reason: Error, retryMs: number): void;
  /** A collector gave no value this time. */
  onFault?(collector: string, error: Error): void;
}

export interface RelayClient {
  /**
   * Adds a collector; its points carry the tags, which the server splits at their first colon. Throws a TypeError for a
   * name with - : or , in it, for `_connected`, and for a name that is taken.
   */
  add(name: string, collector: Collector, tags?: readonly string[]): void;
  /** An unknown name is ignored. */
  remove(name: string): void;
  /** Collects and sends now, without being asked. Resolves when the values are handed to the connection, if there is one. */
  flush(): Promise<void>;
  /** What the collectors say now, by `name` or `name-value`, and `_connected`: 1 or 0. */
  info(): Promise<Record<string, number>>;
  /** Leaves the server for good: nothing reconnects after it. Idempotent. */
  close(): Promise<void>;
}

/** Connects at once and, whatever happens, again and again until closed. Throws a TypeError for an id or token that no line can carry. */
export function createRelayClient(options: RelayClientOptions): RelayClient {
  const { id, token, onConnected, onDisconnected, onFault } = options;
  if (id === "" || textFault(id.toWellFormed()))
    throw new TypeError("the id must be one line of text without control characters, and not empty");
  if (token !== undefined && !/^\S+$/.test(token)) throw new TypeError("the token must have no white space");
  const hello = token === undefined ? `id ${id}` : `id ${id} ${token}`;
  const { min, max } = options.reconnectMs ?? { min: 1_000, max: 30_000 };
  const collectors = createCollectorSet({
    timeoutMs: options.collectTimeoutMs ?? 10_000,
    onFault: (name, error) => onFault?.(name, error),
  });
  const closing = new AbortController();
  let connection: ServerConnection | undefined;
  const overrides = createOverrides((name) => void answer([name]));

  async function answer(names: readonly string[]): Promise<void> {
    const asked = connection;
    const values = await collectors.collect(names);
    if (values.length > 0) asked?.send(gotLine(values));
  }

  function take(line: string): void {
    const space = line.indexOf(" ");
    const command = space < 0 ? line : line.slice(0, space);
    const rest = space < 0 ? "" : line.slice(space + 1);
    if (command === "get") void answer(rest.split(","));
    else if (command === "flush") void answer(collectors.names);
    else if (command === "override") {
      const override = parseOverride(rest);
      if (override) overrides.start(override);
      connection?.send(override ? "ok" : "bad argument");
    }
    // Anything else is an answer, or a command of a later server.
  }

  async function run(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; failures++) {
      let reason: Error;
      try {
        // Lines can come in the packet that says ok, before `connection` is set; what they ask for waits until it is.
        const early: string[] = [];
        let onLine = (line: string): void => void early.push(line);
        connection = await openConnection({
          ...options,
          hello,
          onLine: (line) => onLine(line),
          signal: closing.signal,
        });
        for (const name of collectors.names) connection.send(collectors.addLine(name));
        failures = 0;
        onConnected?.();
        early.forEach(take);
        onLine = take;
        reason = await connection.ended;
      } catch (error) {
        reason = error as Error;
      }
      connection = undefined;
      overrides.stop();
      if (closing.signal.aborted) return;
      const retryMs = min + Math.random() * (Math.min(max, min * 2 ** Math.min(failures + 1, 30)) - min);
      onDisconnected?.(reason, retryMs);
      await sleepUnless(closing.signal, retryMs);
    }
  }
  const running = run();

  return {
    add(name, collector, tags = []) {
      collectors.add(name, collector, tags);
      connection?.send(collectors.addLine(name));
    },
    remove(name) {
      if (collectors.remove(name)) connection?.send(`remove ${name}`);
    },
    flush: () => answer(collectors.names),
    async info() {
      const values = await collectors.collect(collectors.names);
      const named = values.map(([collector, name, value]) => [
        name === collector ? name : `${collector}-${name}`,
        value,
      ]);
      return { _connected: connection ? 1 : 0, ...Object.fromEntries(named) };
    },
    async close() {
      closing.abort(new Error("the relay client was closed"));
      for (const name of collectors.names) connection?.send(`remove ${name}`);
      connection?.send("close");
      await connection?.close();
      await running;
    },
  };
}
