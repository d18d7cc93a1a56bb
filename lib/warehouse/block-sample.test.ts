// How much of a table a sample of blocks is.
import { expect, it } from "vitest";
import { blockSampleOf } from "./block-sample.ts";

const BOUNDS = { blocks: 50, rows: 50_000 };

it.each([
  [0, 1, 1],
  [50_000, 1, 1],
  [50_001, 1, 2],
  [409_600, 1, 9],
  [409_601, 2, 5],
  [10_000_000, 25, 8],
  [10_000_000_000, 24_415, 9],
])("of %i rows takes one block of %i, and one row of %i in it", (total, everyBlock, everyRow) => {
  expect(blockSampleOf(total, BOUNDS)).toEqual({ everyBlock, everyRow });
});

it("without a bound on blocks takes rows of all of them", () => {
  expect(blockSampleOf(1e9, { blocks: Number.POSITIVE_INFINITY, rows: 1e5 })).toEqual({ everyBlock: 1, everyRow: 1e4 });
});
