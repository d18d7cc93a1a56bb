// The judge is judged: traces with known faults, each of which it must find and name, and nothing else.
import { describe, expect, it } from "vitest";
import { checkTrace, type Trace, type Verdict } from "./trace-checker.ts";

const FINE: Verdict = {
  lost: [],
  unaccounted: [],
  doubled: [],
  doubledIds: [],
  foreign: [],
  disordered: [],
  lostLetters: [],
};

const epoch = "e";
const at = (offset: number, partition = 0) => ({ epoch, partition, offset });
const row = (offset: number, id?: string) => ({ ...at(offset), id });
const duplicate = (offset: number, detail: string) => ({ ...at(offset), outcome: "duplicate", detail });
const deadLetter = (offset: number) => ({ ...at(offset), outcome: "dead_letter", detail: "undecodable" });

/** Six records: two plain rows, a caller's id and its retry, a dead letter, a row in a second partition. */
const good: Trace = {
  epoch,
  acked: [row(0), row(1), row(2, "a"), row(3, "a"), at(4), at(0, 1)],
  rows: [row(0), row(1), row(2, "a"), at(0, 1)],
  outcomes: [duplicate(3, "0:2"), deadLetter(4)],
  letters: [at(4)],
};

function check(change: Partial<Trace>): Verdict {
  return checkTrace({ ...good, ...change });
}

it("finds nothing in a trace that is right", () => {
  expect(checkTrace(good)).toEqual(FINE);
});

it("finds one loss and one double in the same trace and names them", () => {
  const rows = [row(1), row(2, "a"), row(2, "a"), at(0, 1)];
  expect(check({ rows })).toEqual({
    ...FINE,
    lost: ["0:0"],
    unaccounted: ["0:0"],
    doubled: ["0:2"],
    doubledIds: ["a"],
  });
});

describe("finds", () => {
  it("gaps in the offsets, in the middle and at the end of a partition", () => {
    expect(check({ rows: [row(0), row(2, "a")] })).toEqual({
      ...FINE,
      lost: ["0:1", "1:0"],
      unaccounted: ["0:1", "1:0"],
    });
  });

  it("everything lost when nothing is stored", () => {
    const nothing = check({ rows: [], outcomes: [], letters: [] });
    expect(nothing.unaccounted).toEqual(["0:0", "0:1", "0:2", "0:3", "0:4", "1:0"]);
    expect(nothing.lost).toEqual(["a", "0:0", "0:1", "0:4", "1:0"]);
  });

  it("an event whose every record is called a duplicate, as lost", () => {
    const rows = [row(0), row(1), at(0, 1)];
    const outcomes = [duplicate(2, "0:3"), duplicate(3, "0:2"), deadLetter(4)];
    expect(check({ rows, outcomes })).toEqual({ ...FINE, lost: ["a"], disordered: ["0:2", "0:3"] });
  });

  it("a row that is stored twice in one partition, but not the same offset of two partitions", () => {
    expect(check({ rows: [...good.rows, row(1)] })).toEqual({ ...FINE, doubled: ["0:1"] });
  });

  it("an outcome beside a stored row", () => {
    expect(check({ outcomes: [...good.outcomes, duplicate(1, "0:0")] })).toEqual({ ...FINE, doubled: ["0:1"] });
  });

  it("one outcome twice", () => {
    expect(check({ outcomes: [...good.outcomes, deadLetter(4)] })).toMatchObject({ doubled: ["0:4"] });
  });

  it("two rows of one caller's id, each at its own offset", () => {
    const rows = [...good.rows, row(3, "a")];
    expect(check({ rows, outcomes: [deadLetter(4)] })).toEqual({ ...FINE, doubledIds: ["a"] });
  });

  it("a row of another epoch, which accounts for no offset of this one", () => {
    const rows = [{ ...row(0), epoch: "old" }, ...good.rows.slice(1)];
    expect(check({ rows })).toEqual({ ...FINE, lost: ["0:0"], unaccounted: ["0:0"], foreign: ["old:0:0"] });
  });

  it("a row at an offset that was never acknowledged", () => {
    expect(check({ rows: [...good.rows, row(5)] })).toEqual({ ...FINE, foreign: ["0:5"] });
  });

  it.each(["0:3", "0:5", "1:7", "no position"])("a duplicate of %s, where no earlier row is", (detail) => {
    expect(check({ outcomes: [duplicate(3, detail), deadLetter(4)] })).toEqual({ ...FINE, disordered: ["0:3"] });
  });

  it("a duplicate of a row that came later", () => {
    const rows = [row(0), row(1), row(3, "a"), at(0, 1)];
    const outcomes = [duplicate(2, "0:3"), deadLetter(4)];
    expect(check({ rows, outcomes })).toEqual({ ...FINE, disordered: ["0:2"] });
  });

  it("a dead letter without its bytes, and one with two copies of them", () => {
    expect(check({ letters: [] })).toEqual({ ...FINE, lostLetters: ["0:4"] });
    expect(check({ letters: [at(4), at(4)] })).toEqual({ ...FINE, lostLetters: ["0:4"] });
  });
});

describe("takes as accounted for", () => {
  it("a duplicate of a row of an older epoch", () => {
    expect(check({ outcomes: [duplicate(3, "old:0:9"), deadLetter(4)] })).toEqual(FINE);
  });

  it("a duplicate of a row in another partition, whatever its offset", () => {
    expect(check({ outcomes: [duplicate(3, "1:0"), deadLetter(4)] })).toEqual(FINE);
  });

  it("an erased event", () => {
    const erased = { ...at(2), outcome: "erased", detail: "" };
    expect(check({ rows: [row(0), row(1), at(0, 1)], outcomes: [...good.outcomes, erased] })).toEqual(FINE);
  });
});
