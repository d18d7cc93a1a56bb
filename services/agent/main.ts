// `millrace agent`: measures this host and answers the relay's polls.
import { runService } from "#lib/process/lifecycle.ts";
import { createLogger } from "#lib/process/log.ts";
import { startAgent } from "./app.ts";
import { parseAgentConfig } from "./config.ts";

const STOP_MS_MAX = 5_000;

export async function main(argv: string[], env: NodeJS.ProcessEnv): Promise<number> {
  const outcome = parseAgentConfig(argv, env);
  if (outcome.kind === "text") {
    (outcome.exitCode === 0 ? process.stdout : process.stderr).write(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  const logger = createLogger({ level: config.logLevel, service: "agent" });
  return runService({ name: "agent", logger, stopTimeoutMs: STOP_MS_MAX, start: () => startAgent(config, logger) });
}
