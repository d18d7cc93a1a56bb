// Findings as a person reads them, one line a check, and as JSON.
import { printable, printableJson } from "#lib/process/printable.ts";
import type { Finding, Status } from "./probe.ts";

export interface NamedFinding extends Finding {
  name: string;
}

const WORDS: Record<Status, string> = { ok: "ok", warn: "warn", fail: "FAIL", skip: "--" };

export function findingLine({ name, status, what, fix }: NamedFinding): string {
  const remedy = fix === undefined ? "" : `; fix: ${fix}`;
  return `${WORDS[status].padEnd(4)}  ${name}: ${printable(`${what}${remedy}`)}\n`;
}

export function summaryLine(findings: readonly Finding[]): string {
  const count = (status: Status) => findings.filter((finding) => finding.status === status).length;
  return `${count("ok")} ok, ${count("warn")} to look at, ${count("fail")} broken, ${count("skip")} not checked\n`;
}

export function findingsJson(findings: readonly NamedFinding[]): string {
  const checks = findings.map(({ name, status, what, fix }) => ({ name, status, what, fix }));
  return `${printableJson({ healthy: isHealthy(findings), checks }, 2)}\n`;
}

/** Warnings and what was not checked are for a person to weigh. */
export function isHealthy(findings: readonly Finding[]): boolean {
  return findings.every(({ status }) => status !== "fail");
}
