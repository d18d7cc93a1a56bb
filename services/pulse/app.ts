// pulse's server as a composition of Millrace's parts: the standalone without its gateway.

import type { HostPort } from "#lib/config/host-port.ts";
import { sendEmpty } from "#lib/http/answers.ts";
import { createTokenCheck, credentialsOf } from "#lib/http/credential.ts";
import type { RunningService } from "#lib/process/lifecycle.ts";
import type { Logger } from "#lib/process/log.ts";
import { type Relay, startRelay } from "../relay/app.ts";
import { startCore } from "../standalone/core.ts";
import { startStats } from "../stats/app.ts";
import type { Mounted } from "../stats/mount.ts";
import type { PulseConfig } from "./config.ts";

export interface Pulse extends RunningService {
  readonly httpUrl: string;
  /** host:port for relays. */
  readonly relayAddress: string;
  readonly clickhouseUrl: string;
}

/** Rejects with a sentence when a port or the data directory is no good. */
export async function startPulse(config: PulseConfig, logger: Logger): Promise<Pulse> {
  await using stack = new AsyncDisposableStack();
  const { standalone, http, relays, hasAlertRoutes } = config;
  for (const warning of config.warnings) logger.warn(warning);
  const core = stack.use(await startCore(standalone, logger));
  const { log, registry, asked: warehouse, checks } = core;
  const relayConfig = { ...standalone, host: relays.host };
  // The port's own token, where there is one: the relays' beside it would be a second one in the same header.
  const relay = stack.use(await startRelay({ config: relayConfig, routesToken: config.token, log, registry, logger }));
  const extraRoutes = [guardedRoutes(relay, config.token)];
  const parts = { log, warehouse, registry, logger, checks, extraRoutes, hasAlertRoutes };
  const stats = stack.use(await startStats({ ...standalone, host: http.host }, parts));
  // First and side by side, so that what they accept until their end is on the log before the consumer leaves.
  stack.defer(async () => {
    await Promise.all([stats, relay].map((each) => each[Symbol.asyncDispose]()));
  });

  const owned = stack.move();
  return {
    httpUrl: `${standalone.tlsCert === undefined ? "http" : "https"}://${text({ ...http, port: stats.port })}`,
    relayAddress: text({ ...relays, port: relay.port }),
    clickhouseUrl: core.clickhouseUrl,
    failed: core.failed,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** `/relays`, refused without the port's token as everything else on it is: by 401 and nothing more. */
function guardedRoutes(relay: Relay, token: string | undefined): Mounted {
  const isToken = token === undefined ? undefined : createTokenCheck(token);
  return (request, response) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (path !== "/relays" && !path.startsWith("/relays/")) return false;
    if (isToken === undefined || credentialsOf(request).some(isToken)) return relay.routes(request, response);
    sendEmpty(response, 401);
    return true;
  };
}

function text({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
