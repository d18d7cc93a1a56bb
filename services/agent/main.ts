// `millrace agent`: measures this host and answers the relay's polls.
import { createService } from "#lib/process/run-command.ts";
import { startAgent } from "./app.ts";
import { parseAgentConfig } from "./config.ts";

const STOP_MS_MAX = 5_000;

export const main = createService({
  name: "agent",
  parse: parseAgentConfig,
  stopTimeoutMs: () => STOP_MS_MAX,
  async start(config, { logger, owner }) {
    owner.use(await startAgent(config, logger));
    return undefined;
  },
});
