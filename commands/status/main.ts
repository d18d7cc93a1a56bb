// `millrace status`: exit code 0 when nothing delays or endangers events, 3 when something does, 1 when it could not be asked,
// 2 for wrong arguments.
import { toJson } from "@bufbuild/protobuf";
import { GetStatusResponseSchema, Problem_Severity, StatusService } from "#gen/millrace/stats/v1/status_pb.ts";
import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { printableJson } from "#lib/process/printable.ts";
import { createCommand } from "#lib/process/run-command.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import { createStatsClient, explainStats } from "#lib/stats-client/stats-client.ts";
import { parseStatus } from "./config.ts";
import { statusText } from "./text.ts";

const exitProblem = 3;
const CALL_MS_MAX = 15_000;
const WATCH_MS = 2_000;

export const main = createCommand({
  name: "status",
  parse: parseStatus,
  async run({ config }, { out, owner }) {
    trustAuthorities(config.tlsCa);
    const client = createStatsClient(StatusService, config, CALL_MS_MAX);
    const stopping = new AbortController();
    const stop = () => stopping.abort();
    process.once("SIGINT", stop).once("SIGTERM", stop);
    owner.defer(() => void process.off("SIGINT", stop).off("SIGTERM", stop));
    for (;;) {
      const status = await client.getStatus({});
      const hasProblem = status.problems.some(({ severity }) => severity >= Problem_Severity.DELAY);
      // On a terminal each look takes the place of the one before.
      const clear = config.watch && !config.json && process.stdout.isTTY ? "\u001b[H\u001b[2J" : "";
      const json = config.watch ? undefined : 2;
      out(
        config.json ? `${printableJson(toJson(GetStatusResponseSchema, status), json)}\n` : clear + statusText(status),
      );
      if (!config.watch || !(await sleepUnless(stopping.signal, WATCH_MS))) return hasProblem ? exitProblem : 0;
    }
  },
  explain: (error, { config }) => explainStats(error, config),
});
