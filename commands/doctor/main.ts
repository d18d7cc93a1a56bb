// `millrace doctor`: exit code 0 when nothing is broken, 1 when something is, 2 for wrong settings.
import { setTimeout as pause } from "node:timers/promises";
import { settings } from "#lib/config/command.ts";
import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { createCommand } from "#lib/process/run-command.ts";
import { doctorSchema } from "./config.ts";
import { examine } from "./examine.ts";
import { findingLine, findingsJson, isHealthy, type NamedFinding, summaryLine } from "./report.ts";

const CLOSE_MS_MAX = 2_000;

const parse = settings(
  doctorSchema,
  "millrace doctor",
  "checks every part, follows an event through all of them, and says what to do about what is broken.",
);

export const main = createCommand({
  name: "doctor",
  parse,
  async run({ config }, { out }) {
    trustAuthorities(config.tlsCa);
    // Not the frame's: nothing was written, so whatever will not close is let go with the process.
    const owner = new AsyncDisposableStack();
    const findings: NamedFinding[] = [];
    for (const { name, result } of examine(config, owner).probes) {
      const finding = { name, ...(await result) };
      findings.push(finding);
      if (!config.json) out(findingLine(finding));
    }
    out(config.json ? findingsJson(findings) : summaryLine(findings));
    await Promise.race([owner.disposeAsync().catch(() => undefined), pause(CLOSE_MS_MAX, undefined, { ref: false })]);
    return isHealthy(findings) ? 0 : 1;
  },
});
