// `millrace doctor`: exit code 0 when nothing is broken, 1 when something is, 2 for wrong settings.
import { setTimeout as pause } from "node:timers/promises";
import { parseConfig } from "#lib/config/parse.ts";
import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { ownTerminal, type Terminal } from "#lib/process/terminal.ts";
import { doctorSchema } from "./config.ts";
import { examine } from "./examine.ts";
import { findingLine, findingsJson, isHealthy, type NamedFinding, summaryLine } from "./report.ts";

const CLOSE_MS_MAX = 2_000;

export async function main(
  argv: readonly string[],
  env: Record<string, string | undefined>,
  terminal: Terminal = ownTerminal,
): Promise<number> {
  const outcome = parseConfig(doctorSchema, {
    argv,
    env,
    command: "millrace doctor",
    summary: "checks every part, follows an event through all of them, and says what to do about what is broken.",
  });
  if (outcome.kind !== "config") {
    (outcome.exitCode === 0 ? terminal.out : terminal.err)(outcome.text);
    return outcome.exitCode;
  }
  const { config } = outcome;
  trustAuthorities(config.tlsCa);
  const owner = new AsyncDisposableStack();
  const findings: NamedFinding[] = [];
  for (const { name, result } of examine(config, owner).probes) {
    const finding = { name, ...(await result) };
    findings.push(finding);
    if (!config.json) terminal.out(findingLine(finding));
  }
  terminal.out(config.json ? findingsJson(findings) : summaryLine(findings));
  // Nothing was written, so whatever will not close is let go with the process.
  await Promise.race([owner.disposeAsync().catch(() => undefined), pause(CLOSE_MS_MAX, undefined, { ref: false })]);
  return isHealthy(findings) ? 0 : 1;
}
