// docs/guarantees.md, the lists of docs/design.md and what SECURITY.md says is checked claim nothing without a test: each
// claim links to tests, and those exist under the names they give.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const DOCS = fileURLToPath(new URL("../../docs", import.meta.url));
const WITHOUT_PROOF = "What is not promised";

interface Evidence {
  claim: string;
  name: string;
  file: string;
}

/** The list items below each heading; those of what is not promised need no test. */
function readClaims(markdown: string): { heading: string; claim: string }[] {
  return markdown.split(/^## /m).flatMap((section, i) => {
    const [heading = "", ...lines] = section.split("\n");
    const items = lines.join("\n").split(/^- /m).slice(1);
    return items.map((claim) => ({ heading: i === 0 ? "" : heading, claim: claim.trim() }));
  });
}

function readEvidence(claim: string): Evidence[] {
  return [...claim.matchAll(/\[([^\]]+)\]\(([^)]+)\)/g)].map(([, name = "", file = ""]) => ({
    claim,
    name: name.replaceAll(/\s+/g, " "),
    file,
  }));
}

function claimsWithoutTest(markdown: string): string[] {
  const claims = readClaims(markdown).filter(({ heading }) => heading !== WITHOUT_PROOF);
  return claims.filter(({ claim }) => readEvidence(claim).length === 0).map(({ claim }) => claim);
}

/** What is linked and is no test of that name. `read` returns undefined for a file that does not exist. */
function brokenEvidence(markdown: string, read: (file: string) => string | undefined): string[] {
  const evidence = readClaims(markdown).flatMap(({ claim }) => readEvidence(claim));
  return evidence
    .filter(({ name, file }) => !hasTest(read(file) ?? "", name))
    .map(({ name, file }) => `${file}: ${name}`);
}

/** The whole name as it is written in the source, first argument of a call: a part of another name is not it. */
function hasTest(source: string, name: string): boolean {
  return ['"', "'", "`"].some((quote) =>
    source
      .split(`${quote}${name}${quote},`)
      .slice(0, -1)
      .some((before) => before.trimEnd().endsWith("(")),
  );
}

/** Test files, and the contracts that several of them run. */
const readFrom = (folder: string) => (file: string) => {
  const path = join(folder, file);
  return /(?:\.test|-contract)\.ts$/.test(file) && existsSync(path) ? readFileSync(path, "utf8") : undefined;
};
const readFromDocs = readFrom(DOCS);

describe("docs/guarantees.md", () => {
  const markdown = readFileSync(join(DOCS, "guarantees.md"), "utf8");

  it("has a test behind every claim", () => {
    expect(readClaims(markdown).length).toBeGreaterThan(20);
    expect(claimsWithoutTest(markdown)).toEqual([]);
  });

  it("links to tests that exist under their names", () => {
    expect(brokenEvidence(markdown, readFromDocs)).toEqual([]);
  });
});

describe("SECURITY.md", () => {
  const page = readFileSync(join(DOCS, "../SECURITY.md"), "utf8");
  const list = page.slice(page.indexOf("## What is checked"));

  it("has a test behind everything that it says is checked", () => {
    expect(readClaims(list).length).toBeGreaterThan(12);
    expect(claimsWithoutTest(list)).toEqual([]);
    const tests = list.replaceAll(/\[[^\]]*\]\([^)]*\.md\)/g, "");
    expect(brokenEvidence(tests, readFrom(join(DOCS, "..")))).toEqual([]);
  });
});

describe("docs/design.md", () => {
  const page = readFileSync(join(DOCS, "design.md"), "utf8");
  const lists = page.slice(page.indexOf("## Invariants"), page.indexOf("## Rooms"));

  it("names a test for each invariant and for everything that is not obvious", () => {
    expect(readClaims(lists).length).toBeGreaterThan(25);
    expect(claimsWithoutTest(lists)).toEqual([]);
    // guarantees.md is linked beside the tests, in the text before a list.
    expect(brokenEvidence(lists, readFromDocs)).toEqual([]);
  });

  it("begins each of them with what to remember", () => {
    expect(readClaims(lists).filter(({ claim }) => !claim.startsWith("**"))).toEqual([]);
  });
});

describe("the check", () => {
  const page = (claim: string) => `# Title\n\n## Claims\n\n${claim}\n\n## ${WITHOUT_PROOF}\n\n- **Anything else.**\n`;
  const files: Record<string, string> = {
    "a.test.ts": 'it("holds water", () => {});\nit.each(x)(\n  "in a sieve", f);',
  };
  const read = (file: string) => files[file];

  it("finds a claim without a test, and asks for none of what is not promised", () => {
    expect(claimsWithoutTest(page("- It holds.\n  [holds water](a.test.ts)\n- It floats."))).toEqual(["It floats."]);
  });

  it("takes a name as it is written in the source, also over two lines", () => {
    const claims = "- It holds.\n  [holds\n  water](a.test.ts), [in a sieve](a.test.ts)";
    expect(brokenEvidence(page(claims), read)).toEqual([]);
  });

  it.each([
    ["a renamed test", "[holds wine](a.test.ts)"],
    ["a part of a name", "[holds](a.test.ts)"],
    ["text that is no test's name", "[x](a.test.ts)"],
    ["a file that does not exist", "[holds water](b.test.ts)"],
  ])("finds %s", (_, link) => {
    expect(brokenEvidence(page(`- It holds.\n  ${link}`), read)).toHaveLength(1);
  });
});
