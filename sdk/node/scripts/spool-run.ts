// `node sdk/node/scripts/spool-run.ts --events 1000000`: each event captured into the spool becomes one row, whatever is
// killed meanwhile. Exit code 0 when it was so.
import { parseArgs } from "node:util";
import { runSpoolKills } from "../../../test/kit/client-spool-run.ts";

const { values } = parseArgs({
  options: {
    events: { type: "string", default: "1000000" },
    "events-per-second": { type: "string", default: "40000" },
    "gateway-kills": { type: "string", default: "6" },
    "client-kills": { type: "string", default: "6" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write("npm run spool-run -- [--events 1000000] [--events-per-second 40000]");
  process.stdout.write(" [--gateway-kills 6] [--client-kills 6]\n");
  process.exit(0);
}
const events = Number(values.events);
const result = await runSpoolKills({
  events,
  eventsPerSecond: Number(values["events-per-second"]),
  gatewayKills: Number(values["gateway-kills"]),
  clientKills: Number(values["client-kills"]),
  report: (line) => process.stdout.write(`${line}\n`),
});
const { rows, distinct, missing, recovered, gatewayKills, clientKills, verifyExitCode, seconds } = result;
process.stdout.write(
  `${events} events in ${seconds.toFixed(1)} s, ${gatewayKills} kills of the gateway, ${clientKills} of the client\n` +
    `rows ${rows}, distinct ${distinct}, missing ${missing}, out of the spool after a start ${recovered}, verify exit ${verifyExitCode}\n`,
);
process.exitCode = rows === events && distinct === events && missing === 0 && verifyExitCode === 0 ? 0 : 1;
