// The all-in-one composition root: gateway, relay and stats over what core.ts starts.

import { urlHost } from "#lib/http/addresses.ts";
import { createRefusedEvents } from "#lib/ledger/refused-events.ts";
import type { RunningService } from "#lib/process/lifecycle.ts";
import type { Logger } from "#lib/process/log.ts";
import { startGateway } from "../gateway/app.ts";
import { startRelay } from "../relay/app.ts";
import { startStats } from "../stats/app.ts";
import { localRefusals } from "../stats/receipts/refusals.ts";
import type { StandaloneConfig } from "./config.ts";
import { startCore } from "./core.ts";

export interface Standalone extends RunningService {
  readonly gatewayUrl: string;
  readonly statsUrl: string;
  /** host:port for relays. */
  readonly relayAddress: string;
  readonly clickhouseUrl: string;
}

export async function startStandalone(config: StandaloneConfig, logger: Logger): Promise<Standalone> {
  await using stack = new AsyncDisposableStack();
  const core = stack.use(await startCore(config, logger));
  const { log, registry, asked, checks } = core;
  const host = urlHost(config.host);
  const scheme = config.tlsCert === undefined ? "http" : "https";
  const relay = stack.use(await startRelay({ config, log, registry, logger }));
  const retention = async () => ({ keptMs: config.logRetention, why: "the standalone's LOG_RETENTION" });
  const refused = createRefusedEvents();
  let gatewayPort: number | undefined;
  const stats = stack.use(
    await startStats(config, {
      ...{ log, warehouse: asked, registry, logger, extraRoutes: [relay.routes], retention },
      ...{ consumerChecks: checks, refusals: localRefusals(refused), logDirectory: config.dataDir },
      console: { gatewayPort: () => gatewayPort },
    }),
  );
  const gateway = stack.use(
    await startGateway(config, { log, registry, logger, checks, refused, consolePort: stats.port }),
  );
  gatewayPort = gateway.port;
  // First and side by side, so that what they accept until their end is on the log before the consumer leaves.
  stack.defer(async () => {
    await Promise.all([gateway, stats, relay].map((each) => each[Symbol.asyncDispose]()));
  });

  const owned = stack.move();
  return {
    gatewayUrl: `${scheme}://${host}:${gateway.port}`,
    statsUrl: `${scheme}://${host}:${stats.port}`,
    relayAddress: `${host}:${relay.port}`,
    clickhouseUrl: core.clickhouseUrl,
    failed: core.failed,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
