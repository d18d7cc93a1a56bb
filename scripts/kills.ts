// `npm run kills`: the kill test of test/integrity at full length, with its report.
import { parseArgs } from "node:util";
import { runConsumerKills } from "../test/kit/consumer-kills.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "120" },
    "events-per-second": { type: "string", default: "2000" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write("npm run kills -- [--seconds 120] [--events-per-second 2000]\n");
} else {
  const report = await runConsumerKills({
    seconds: Number(values.seconds),
    eventsPerSecond: Number(values["events-per-second"]),
    pauseMs: { min: 10_000, max: 15_000 },
    report: (line) => process.stdout.write(`${line}\n`),
  });
  const { kills, acked, rows, distinctIds, lost, doubled, verifyExitCode, verifyOutput } = report;
  const caught = kills.filter(({ inFlight }) => inFlight.length > 0).length;
  process.stdout.write(
    `${verifyOutput}\n\n${kills.length} kills, ${caught} of them with a range in flight\nacked ${acked}, rows ${rows}, distinct ids ${distinctIds}, lost ${lost}, doubled ${doubled}, verify exit ${verifyExitCode}\n`,
  );
  process.exitCode = lost === 0 && doubled === 0 && verifyExitCode === 0 ? 0 : 1;
}
