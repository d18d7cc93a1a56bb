import { describe, expect, it } from "vitest";
import { areEqual, compare, type StoredRow } from "./audit.ts";

function run(count: number) {
  const ids = Array.from({ length: count }, (_, n) => `id-${n}`);
  const sent = new Map(ids.map((id, n) => [id, `content ${n}`]));
  const rows: StoredRow[] = ids.map((id, n) => ({ id, content: `content ${n}` }));
  return { traffic: { sent, acked: new Set(ids) }, rows };
}

const CLEAN = { lost: [], doubled: [], altered: [], unknown: [] };

describe("compare", () => {
  it("finds nothing where every acknowledged event has one row as it was sent", () => {
    const { traffic, rows } = run(100);
    expect(compare(traffic, rows)).toEqual({ stored: 100, ...CLEAN });
  });

  it("finds one loss, one double, one altered row and one row nobody sent", () => {
    const { traffic, rows } = run(100);
    const faulty = rows.filter(({ id }) => id !== "id-17");
    faulty.push({ id: "id-23", content: "content 23" });
    faulty[50] = { ...(faulty[50] as StoredRow), content: "content of another" };
    faulty.push({ id: "id-of-nobody", content: "content 1" });
    expect(compare(traffic, faulty)).toEqual({
      stored: 101,
      lost: ["id-17"],
      doubled: ["id-23"],
      altered: ["id-51"],
      unknown: ["id-of-nobody"],
    });
  });

  it("a loss and a double do not cancel each other out", () => {
    const { traffic, rows } = run(10);
    const faulty = [...rows.slice(1), rows[1] as StoredRow];
    const { stored, lost, doubled } = compare(traffic, faulty);
    expect({ stored, lost, doubled }).toEqual({ stored: 10, lost: ["id-0"], doubled: ["id-1"] });
  });

  it("counts each row beyond the first of an id", () => {
    const { traffic, rows } = run(3);
    const row = rows[0] as StoredRow;
    expect(compare(traffic, [...rows, row, row]).doubled).toEqual(["id-0", "id-0"]);
  });

  it("takes an event that was not acknowledged with a row and without one, but not with two", () => {
    const { traffic, rows } = run(3);
    const unanswered = { ...traffic, acked: new Set(["id-0"]) };
    expect(compare(unanswered, rows)).toEqual({ stored: 3, ...CLEAN });
    expect(compare(unanswered, rows.slice(0, 1))).toEqual({ stored: 1, ...CLEAN });
    expect(compare(unanswered, [...rows, rows[2] as StoredRow]).doubled).toEqual(["id-2"]);
  });
});

it("sums are equal but for the last digits, and counts in all of them", () => {
  expect(areEqual({ count: 3, sum: 0.1 + 0.2 + 0.3 }, { count: 3, sum: 0.3 + 0.2 + 0.1 })).toBe(true);
  expect(areEqual({ count: 3, sum: 6 }, { count: 2, sum: 6 })).toBe(false);
  expect(areEqual({ count: 3, sum: 6 }, { count: 3, sum: 6.001 })).toBe(false);
});
