import { expect, it } from "vitest";
import { AssignmentLostError } from "../log.ts";
import { type AssignmentDeps, createAssignment } from "./assignment.ts";
import type { Feed } from "./fetcher.ts";

const READ = { from: 0, maxRecords: 1, maxBytes: 1, maxWaitMs: 0 };

function held(leaseHolds: boolean, ids: Awaited<ReturnType<Feed["topicIds"]>> = { read: "one", now: "another" }) {
  const abandoned: Error[] = [];
  const holding = createAssignment("t", 0, {
    group: "g",
    membership: { memberId: "m", generationId: 1, coordinator: {} as never, assigned: new Map() },
    feed: {
      read: async () => [],
      bounds: () => Promise.reject(new Error("unused")),
      topicIds: async () => ids,
      close: () => undefined,
    },
    leaseHolds: () => leaseHolds,
    fenced: () => undefined,
    abandon(reason) {
      abandoned.push(reason);
      holding.lose(reason);
    },
  } satisfies AssignmentDeps);
  return { ...holding, abandoned };
}

it("a call after the partition was taken away in a rebalance does not end the membership", async () => {
  const { assignment, lose, abandoned } = held(false);
  lose(new Error("the group is rebalancing"));
  await expect(assignment.read(READ)).rejects.toBeInstanceOf(AssignmentLostError);
  expect(abandoned).toEqual([]);
});

it("another topic of the same name ends the membership", async () => {
  const { assignment, abandoned } = held(true);
  await expect(assignment.topicId()).rejects.toBeInstanceOf(AssignmentLostError);
  expect(abandoned).toEqual([new Error("the topic was deleted and made again")]);
});

it("a broker that gives no ids, beside one that does, ends nothing", async () => {
  const { assignment, abandoned } = held(true, { read: "one", now: undefined });
  expect(await assignment.topicId()).toBe("one");
  expect(abandoned).toEqual([]);
});

it("a call of a holder whose lease is over ends the membership and is refused", async () => {
  const { assignment, abandoned } = held(false);
  await expect(assignment.read(READ)).rejects.toBeInstanceOf(AssignmentLostError);
  expect(abandoned).toHaveLength(1);
});

it("a call within the lease is answered", async () => {
  const { assignment, abandoned } = held(true);
  expect(await assignment.read(READ)).toEqual([]);
  expect(abandoned).toEqual([]);
});
