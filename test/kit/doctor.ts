// `millrace doctor` in this process, and what it found.
import { main } from "../../commands/doctor/main.ts";

export interface Diagnosis {
  exitCode: number;
  /** By name of the check: `FAIL what; fix: …`, as far as it has each. */
  checks: Map<string, { status: string; what: string; fix?: string }>;
  /** Names of the checks with that status. */
  withStatus(status: string): string[];
}

export async function diagnose(env: Record<string, string>, argv: readonly string[] = []): Promise<Diagnosis> {
  let printed = "";
  const print = (text: string) => {
    printed += text;
  };
  const exitCode = await main(["--json", ...argv], env, { out: print, err: print });
  const { checks } = JSON.parse(printed) as { checks: { name: string; status: string; what: string; fix?: string }[] };
  return {
    exitCode,
    checks: new Map(checks.map(({ name, ...finding }) => [name, finding])),
    withStatus: (status) => checks.filter((check) => check.status === status).map(({ name }) => name),
  };
}
