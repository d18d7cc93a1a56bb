import { describe, expect, it } from "vitest";
import { kafkaRetention } from "./retention.ts";

const of = (settings: Record<string, string>) => kafkaRetention(new Map(Object.entries(settings)));
const WEEK = {
  "cleanup.policy": "delete",
  "retention.ms": "604800000",
  "segment.ms": "86400000",
  "retention.bytes": "-1",
};

describe("how long Kafka keeps a record", () => {
  it("is retention.ms and segment.ms together, because whole segments are removed", () => {
    expect(of(WEEK)).toMatchObject({ keptMs: 604_800_000 + 86_400_000 });
    expect(of({ ...WEEK, "cleanup.policy": "compact,delete" })).toMatchObject({ keptMs: 691_200_000 });
    expect(of({ ...WEEK, "retention.ms": "0" })).toMatchObject({ keptMs: 86_400_000 });
  });

  it.each([
    ["for good, since the topic's cleanup.policy", { ...WEEK, "cleanup.policy": "compact" }],
    ["for good, since the topic has neither", { ...WEEK, "retention.ms": "-1" }],
    ["for good, since the topic has neither", {}],
    ["until the topic's retention.bytes", { ...WEEK, "retention.ms": "-1", "retention.bytes": "1000" }],
    ["until the topic's retention.ms after their segments were full", { ...WEEK, "segment.ms": "-1" }],
  ])("cannot be told as a time: %s", (why, settings) => {
    expect(of(settings)).toEqual({ keptMs: undefined, why: expect.stringContaining(why) });
  });
});
