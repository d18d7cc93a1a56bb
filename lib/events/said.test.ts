// A retry is the same event, whatever its sending changed; anything else under its id is another.
import { describe, expect, it } from "vitest";
import { isSameEvent, type Said } from "./said.ts";

const RECEIVED_US = 1_790_000_000_000_000;
const FIRST: Said = {
  ...{ event: "e", distinctId: "d", source: "s", value: 1, propertiesHash: "p" },
  ...{ timeUs: RECEIVED_US - 5_000_000, receivedUs: RECEIVED_US, originalTime: "" },
};
const AT_FIRST = { timeUs: RECEIVED_US, originalTime: "" };
const text = (us: number) => new Date(us / 1000).toISOString();

describe("a record under a known id is", () => {
  it.each<[string, Partial<Said>, Partial<Said>]>([
    ["as it was, later", {}, { receivedUs: RECEIVED_US + 9_000_000 }],
    ["without a time, later", AT_FIRST, { timeUs: RECEIVED_US + 7, receivedUs: RECEIVED_US + 7, originalTime: "" }],
    ["of a time that was corrected this time only", {}, { timeUs: RECEIVED_US, originalTime: text(FIRST.timeUs) }],
    [
      "of a time that was corrected by another sent_at",
      { timeUs: RECEIVED_US - 1, originalTime: "2026-01-01T00:00:00Z" },
      { timeUs: RECEIVED_US - 9, originalTime: "2026-01-01T00:00:00Z" },
    ],
    [
      "of the same instant in another zone",
      { timeUs: 1, originalTime: "2026-01-01T01:00:00+01:00" },
      { timeUs: 2, originalTime: "2026-01-01T00:00:00Z" },
    ],
    ["of a time that is none", { timeUs: 1, originalTime: "today" }, { timeUs: 2, originalTime: "today" }],
  ])("the same event: %s", (_, first, second) => {
    expect(isSameEvent({ ...FIRST, ...first }, { ...FIRST, ...second })).toBe(true);
    expect(isSameEvent({ ...FIRST, ...second }, { ...FIRST, ...first })).toBe(true);
  });

  it.each<[string, Partial<Said>]>([
    ["name", { event: "E" }],
    ["person", { distinctId: "d " }],
    ["source", { source: "" }],
    ["value", { value: 2 }],
    ["value, which it lacks", { value: null }],
    ["properties", { propertiesHash: "q" }],
    ["time", { timeUs: FIRST.timeUs + 1 }],
    ["time, which it lacks", { timeUs: RECEIVED_US }],
    ["time that is none", { timeUs: RECEIVED_US, originalTime: "today" }],
  ])("another event: by its %s", (_, change) => {
    expect(isSameEvent(FIRST, { ...FIRST, ...change })).toBe(false);
    expect(isSameEvent({ ...FIRST, ...change }, FIRST)).toBe(false);
  });
});
