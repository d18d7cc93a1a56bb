// `npm run strangers`: the strangers of test/kit/strangers.ts for as long as wanted.
import { parseArgs } from "node:util";
import { runStrangers } from "../test/kit/strangers.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    strangers: { type: "string", default: "200" },
    "events-per-second": { type: "string", default: "5000" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write("npm run strangers -- [--seconds 60] [--strangers 200] [--events-per-second 5000]\n");
} else {
  const report = await runStrangers({
    strangers: Number(values.strangers),
    seconds: Number(values.seconds),
    eventsPerSecond: Number(values["events-per-second"]),
  });
  process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  process.exitCode = report.p99 < 250 && Object.keys(report.refused).length === 0 ? 0 : 1;
}
