import { describe, expect, it } from "vitest";
import { checkDefinition, type DefinitionInput, type DefinitionRules } from "./parse.ts";

const LEAST: DefinitionInput = { metric: "m", threshold: 1, post: "http://h/" };
const HOUR_MS = 3_600_000;

const KEPT = { pointsRetentionMs: 8 * HOUR_MS };

function check(input: DefinitionInput, rules: DefinitionRules = KEPT) {
  const checked = checkDefinition({ ...LEAST, ...input }, rules);
  return "definition" in checked
    ? checked.definition
    : checked.faults.map(({ field, message }) => `${field}: ${message}`);
}

describe("a duration", () => {
  it.each([
    ["30s", 30_000],
    ["1500ms", 1_500],
    ["2000u", 2],
    ["2000µ", 2],
    ["1h30m", 5_400_000],
    ["8h", 8 * HOUR_MS],
    ["", 300_000],
  ])("of %j is %d ms", (duration, durationMs) => {
    expect(check({ duration })).toMatchObject({ durationMs, durationText: duration || "5m" });
  });

  it.each([
    [90_500, "90500ms"],
    [60_000, "1m"],
    [7_200_000, "2h"],
  ])("of %d ms is written %j", (duration, durationText) => {
    expect(check({ duration })).toMatchObject({ durationMs: duration, durationText });
  });

  it.each(["5", "m", "5 m", "1.5h", "+5m", "5M", "5mm", "５m", `${"1".repeat(100)}s`])(
    "%j is not a duration",
    (duration) => {
      expect(check({ duration })).toEqual([expect.stringMatching(/^duration: .* is not a duration; send /)]);
    },
  );

  it.each(["0s", "999u", "1500u"])("%j is not whole milliseconds", (duration) => {
    expect(check({ duration })).toEqual([expect.stringMatching(/^duration: .* in whole milliseconds$/)]);
  });

  it("may be as long as points are kept, and the default as well", () => {
    expect(check({ duration: 8 * HOUR_MS + 1 })).toEqual([
      'duration: "28800001ms" is longer than points are kept; send at most 8h, or raise POINTS_RETENTION from 8h',
    ]);
    expect(check({}, { pointsRetentionMs: 60_000 })).toEqual([
      expect.stringContaining('"5m" is longer than points are kept; send at most 1m'),
    ]);
  });

  it("has a bound of its own where points are kept for ever", () => {
    expect(check({ duration: "31d" }, { pointsRetentionMs: undefined })).toMatchObject({
      durationMs: 31 * 24 * HOUR_MS,
    });
    for (const duration of ["32d", `${"9".repeat(99)}w`]) {
      expect(check({ duration }, { pointsRetentionMs: undefined })).toEqual([
        expect.stringMatching(/ is too long; send at most 31d$/),
      ]);
    }
  });
});

describe("bounds", () => {
  it.each<[string, DefinitionInput]>([
    ["metric", { metric: "é".repeat(101) }],
    ["tags", { tags: Object.fromEntries(Array.from({ length: 33 }, (_, n) => [`t${n}`, ""])) }],
    ["tags", { tags: { host: "x".repeat(1_025) } }],
    ["tags", { tags: Object.fromEntries(Array.from({ length: 9 }, (_, n) => [`t${n}`, "x".repeat(1_000)])) }],
    ["operator", { operator: "x".repeat(201) }],
    ["threshold", { threshold: Number.POSITIVE_INFINITY }],
    ["threshold", { threshold: "1".repeat(101) }],
    ["post", { post: `http://h/${"x".repeat(2_048)}` }],
    ["group_by", { groupBy: Array.from({ length: 9 }, (_, n) => `t${n}`) }],
    ["group_by", { groupBy: ["x".repeat(1_025)] }],
  ])("of %s are kept, and no fault is long", (field, input) => {
    const faults = check(input);
    expect(faults).toEqual([expect.stringMatching(new RegExp(`^${field}: `))]);
    expect(String(faults).length).toBeLessThan(400);
  });
});
