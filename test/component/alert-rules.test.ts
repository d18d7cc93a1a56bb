// The alert rules: names that exist, a runbook section for each, and promtool's own tests of when each fires.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { documentedMetrics } from "../kit/metrics-catalogue.ts";
import { prometheusForTests } from "../kit/prometheus.ts";
import { expressionFaults, wantedValues } from "../kit/promql.ts";
import { quotedWords } from "../kit/quoted-words.ts";
import { run, temporaryDirectory } from "../kit/standalone.ts";

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook_url: string };
}

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const RULES = join(DEPLOY, "prometheus/rules");
const RUNBOOK = "https://github.com/millrace/millrace/blob/main/docs/runbook.md#";
const catalogue = documentedMetrics();
const files = (await readdir(RULES)).map((name) => join(RULES, name));
const texts = await Promise.all(files.map((path) => readFile(path, "utf8")));
const rules = texts.flatMap((text) => (parse(text) as { groups: { rules: Rule[] }[] }).groups.flatMap((g) => g.rules));
const runbook = await readFile(new URL("../../docs/runbook.md", import.meta.url), "utf8");
const cases = await readFile(join(DEPLOY, "prometheus/tests/millrace.yml"), "utf8");

const sectionsOf = (page: string) => [...page.matchAll(/^## (.+)$/gm)].map(([, title = ""]) => title);

describe("alert rules", () => {
  it("name only metrics and labels of the catalogue, and values that are in the code", () => {
    expect(rules.length).toBeGreaterThan(15);
    expect(rules.flatMap(({ alert, expr }) => expressionFaults(expr, catalogue).map((f) => `${alert}: ${f}`))).toEqual(
      [],
    );
    const words = quotedWords();
    const values = rules.flatMap(({ expr }) => wantedValues(expr));
    expect(values.filter((value) => !words.has(value))).toEqual([]);
  });

  it("do not pass when a metric or a label is misspelt", () => {
    const [lag] = rules.filter(({ alert }) => alert === "MillraceLag");
    const misspelt = (from: string, to: string) => expressionFaults(lag?.expr.replace(from, to) ?? "", catalogue);
    expect(misspelt("millrace_lag_seconds", "millrace_lag_second")).toEqual(["there is no metric millrace_lag_second"]);
    expect(misspelt("topic", "tpoic")).toEqual(["no metric here has label tpoic"]);
  });

  it("page or are tickets, and say in words what is wrong", () => {
    for (const { alert, labels, annotations } of rules) {
      expect(["page", "ticket"], alert).toContain(labels.severity);
      expect(annotations.summary.length, alert).toBeGreaterThan(10);
      expect(annotations.description, alert).toMatch(/^.+\.$/);
    }
  });

  it("have a section each in the runbook, which has no other", () => {
    expect(sectionsOf(runbook).sort()).toEqual(rules.map(({ alert }) => alert).sort());
    for (const { alert, annotations } of rules)
      expect(annotations.runbook_url, alert).toBe(`${RUNBOOK}${alert.toLowerCase()}`);
  });

  it("say in the runbook how loud they are: symptom, meaning, what to do", () => {
    const sections = runbook.split(/^## /m).slice(1);
    for (const { alert, labels } of rules) {
      const section = sections.find((text) => text.startsWith(`${alert}\n`)) ?? "";
      expect(section, alert).toContain(`**Symptom** (${labels.severity}):`);
      expect(section, alert).toContain("**Meaning**:");
      expect(section, alert).toMatch(/\*\*What to do\*\*:\n\n1\. /);
    }
  });

  it("fire in a case of deploy/prometheus/tests each", () => {
    const fired = [...cases.matchAll(/\{alertname="(\w+)"\}/g)].map(([, name]) => name);
    expect(rules.map(({ alert }) => alert).filter((alert) => !fired.includes(alert))).toEqual([]);
  });
});

const tools = prometheusForTests();

describe.skipIf(!tools.available)("promtool", () => {
  /** A copy of Prometheus' files with the rules at their place there, which is not a path of this machine. */
  async function copyOf(change: (text: string) => string = (text) => text) {
    const directory = await temporaryDirectory();
    const at = (path: string) => join(directory.path, path);
    await Promise.all(["rules", "tests"].map((each) => mkdir(at(each))));
    await writeFile(at("rules/millrace.yml"), change(texts.join("\n")));
    await writeFile(at("tests/millrace.yml"), cases);
    const config = await readFile(join(DEPLOY, "prometheus.yml"), "utf8");
    await writeFile(at("prometheus.yml"), config.replace("/etc/prometheus/rules", at("rules")));
    return Object.assign(directory, { at });
  }

  it("takes the configuration with its rules", async () => {
    await using copy = await copyOf();
    const { code, stdout, stderr } = await run("promtool", ["check", "config", copy.at("prometheus.yml")]);
    expect(stderr).toBe("");
    expect(stdout).toContain(`${rules.length} rules found`);
    expect(code).toBe(0);
  });

  it("refuses a rule that is no PromQL", async () => {
    await using copy = await copyOf((text) => text.replace("absent(", "absent(("));
    const { code, stdout, stderr } = await run("promtool", ["check", "rules", copy.at("rules/millrace.yml")]);
    expect(code).not.toBe(0);
    expect(stdout + stderr).toContain("could not parse expression");
  });

  it("finds each alert to fire when it should, and none else", async () => {
    await using copy = await copyOf();
    const { code, stdout, stderr } = await run("promtool", ["test", "rules", copy.at("tests/millrace.yml")]);
    expect(stdout + stderr).toContain("SUCCESS");
    expect(code).toBe(0);
  });

  it.each([
    ["another threshold", "(millrace_lag_seconds) > 300", "(millrace_lag_seconds) > 3000"],
    ["a misspelt metric", "max by (topic) (millrace_lag_seconds)", "max by (topic) (millrace_lag)"],
    ["a rule that is too eager", "(millrace_lag_seconds) > 300", "(millrace_lag_seconds) > 1"],
  ])("notices %s", async (_, from, to) => {
    expect(texts.join("\n")).toContain(from);
    await using copy = await copyOf((text) => text.replace(from, to));
    const { code, stdout, stderr } = await run("promtool", ["test", "rules", copy.at("tests/millrace.yml")]);
    expect(code).not.toBe(0);
    expect(stdout + stderr).toContain("FAILED");
  });
});
