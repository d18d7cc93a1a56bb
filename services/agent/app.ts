// The agent: a relay-protocol client with the host's collectors.
import { readFile } from "node:fs/promises";
import type { Logger } from "#lib/process/log.ts";
import { createRelayClient } from "../../sdk/node/src/index.ts";
import { createHostCollectors } from "./collectors.ts";
import { createCommandCollector } from "./command.ts";
import type { AgentConfig } from "./config.ts";

/** Answers polls until disposed. Rejects when TLS_CA cannot be read; a server that is away is tried for ever. */
export async function startAgent(config: AgentConfig, logger: Logger): Promise<AsyncDisposable> {
  const { host, port, id, token } = config;
  const ca = config.tlsCa === undefined ? undefined : await readFile(config.tlsCa);
  const stopping = new AbortController();
  const faulty = new Set<string>();
  let isAway = false;
  const client = createRelayClient({
    host,
    port,
    id,
    token,
    tls: config.tls ? { ca } : undefined,
    onConnected() {
      isAway = false;
      logger.info({ host, port }, "connected to the relay service");
    },
    onDisconnected(err) {
      // An outage is one line, however many attempts meet it.
      if (!isAway) logger.warn({ err }, "not connected to the relay service; trying again for as long as it takes");
      isAway = true;
    },
    onFault(collector, err) {
      if (faulty.has(collector)) return;
      faulty.add(collector);
      logger.warn({ collector, err }, "a collector gives no value; further failures of it are not logged");
    },
  });
  for (const [name, collect] of Object.entries(createHostCollectors())) client.add(name, collect);
  // Rates are differences: the first poll shall have something to compare with.
  await client.info();
  for (const { name, command } of config.commands) {
    client.add(name, createCommandCollector(command, stopping.signal));
  }
  const timer = config.intervalMs > 0 ? setInterval(() => void client.flush(), config.intervalMs) : undefined;
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      stopping.abort();
      await client.close();
    },
  };
}
