import { describe, expect, it } from "vitest";
import { atMost } from "../../test/kit/patience.ts";
import { formatItem, parseItem } from "./items.ts";
import { formatOverride, parseOverride } from "./override.ts";

describe("items", () => {
  it.each([
    [25, "25.0000"],
    [1.23456, "1.2346"],
    [-0.00001, "-0.0000"],
    [1e20, "100000000000000000000.0000"],
    [1e21, "1000000000000000000000.0000"],
    [-1.5e300, `${BigInt(-1.5e300)}.0000`],
  ])("%d is written %s, and read again", (value, text) => {
    const written = formatItem({ collector: "c", name: "v", value });
    expect(written).toBe(`c-v:${text}`);
    expect(parseItem(written)).toEqual({ collector: "c", name: "v", value: Number(text) });
  });

  it("of a whole line of digits are read in no noticeable time", () => {
    const begun = performance.now();
    expect(parseItem(`c-v:${"1".repeat(60_000)}x`)).toBe("not_a_number");
    expect(parseItem(`c-v:${"1".repeat(60_000)}.${"1".repeat(60_000)}e`)).toBe("not_a_number");
    expect(performance.now() - begun).toBeLessThan(atMost(200));
  });
});

describe("overrides", () => {
  it("are read as they are written", () => {
    const override = {
      seconds: 60,
      intervals: new Map([
        ["cpu", 1],
        ["a:b", 3600],
      ]),
    };
    expect(formatOverride(override)).toBe("override 60 cpu:1,a:b:3600");
    expect(parseOverride("60 cpu:1,a:b:3600")).toEqual(override);
  });

  it.each([
    "",
    "60",
    "60 ",
    "60 cpu",
    "60 cpu:",
    "60 :1",
    "60 cpu:0",
    "60 cpu:1,",
    "60 cpu:3601",
    "0 cpu:1",
    "-1 cpu:1",
    "86401 cpu:1",
    "1.5 cpu:1",
    "60 cpu:1.5",
    "60  cpu:1 ",
    "x cpu:1",
    " 60 cpu:1",
  ])("%j is not an override", (text) => {
    expect(parseOverride(text)).toBeUndefined();
  });
});
