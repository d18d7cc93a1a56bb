import { describe, expect, it } from "vitest";
import type { Assignment, Commit } from "#lib/eventlog/log.ts";
import type { Clock } from "#lib/process/clock.ts";
import { createMarkerKeeper, decodeCommit } from "./marker.ts";

function keeperOn(clock: Clock) {
  const commits: Commit[] = [];
  const assignment: Pick<Assignment, "commit"> = {
    async commit(commit) {
      commits.push(commit);
    },
  };
  return { commits, markers: createMarkerKeeper(assignment as Assignment, "epoch", clock) };
}

describe("the marker", () => {
  it("is read back as it was committed", async () => {
    const { commits, markers } = keeperOn({ nowMs: () => 0, monotonicMs: () => 0 });
    await markers.set({ from: 5, to: 9 });
    await markers.clear(10);
    expect(commits.map(decodeCommit)).toEqual([
      { epoch: "epoch", marker: { from: 5, to: 9 } },
      { epoch: "epoch", marker: undefined },
    ]);
    expect(commits.map(({ offset }) => offset)).toEqual([5, 10]);
  });

  it("says how long batches wait, and why", async () => {
    const commits: Commit[] = [];
    const assignment = { commit: async (commit: Commit) => void commits.push(commit) } as unknown as Assignment;
    const clock = { nowMs: () => 0, monotonicMs: () => 0 };
    const wait = { ms: 120, reason: "inserts" };
    const markers = createMarkerKeeper(assignment, "epoch", clock, () => wait);
    await markers.set({ from: 5, to: 9 });
    await markers.clear(10);
    expect(commits.map((commit) => decodeCommit(commit))).toEqual([
      { epoch: "epoch", marker: { from: 5, to: 9 }, wait },
      { epoch: "epoch", marker: undefined, wait },
    ]);
  });

  it("stays far below the 4,096 bytes that Kafka keeps", async () => {
    const { commits, markers } = keeperOn({ nowMs: () => 0, monotonicMs: () => 0 });
    await markers.set({ from: Number.MAX_SAFE_INTEGER - 1, to: Number.MAX_SAFE_INTEGER });
    expect(commits[0]?.metadata.length).toBeLessThan(100);
  });

  it("is committed again once its acknowledgement is older than asked, counted from when it was sent", async () => {
    let now = 0;
    const { commits, markers } = keeperOn({ nowMs: () => 0, monotonicMs: () => now });
    await markers.set({ from: 0, to: 1 });
    now = 10_000;
    await markers.refresh({ from: 0, to: 1 }, 10_000);
    expect(commits).toHaveLength(1);
    now = 10_001;
    await markers.refresh({ from: 0, to: 1 }, 10_000);
    expect(commits).toHaveLength(2);
  });

  it.each([
    ["empty", ""],
    ["no JSON", "by hand"],
    ["null", "null"],
    ["a number", "7"],
    ["without an epoch", '{"to":9}'],
  ])("is not read from metadata that is %s", (_, metadata) => {
    expect(decodeCommit({ offset: 5, metadata })).toBeUndefined();
  });

  it.each([4, -1, 1.5, "9", null, 1e300])("is not read from an end of %s", (to) => {
    expect(decodeCommit({ offset: 5, metadata: JSON.stringify({ epoch: "e", to }) })).toEqual({
      epoch: "e",
      marker: undefined,
    });
  });
});
