import { expect, it } from "vitest";
import { sharesOf } from "./breakdown.ts";

it("looks at each cell of a name a few times, however many windows have too few of them", () => {
  const [windows, ranks] = [500, 11];
  let looks = 0;
  const cells = Array.from({ length: windows * ranks }, (_, i) => ({
    ...{ rank: 1 + (i % ranks), value: "v", name: "1", window: Math.floor(i / ranks) },
    get n() {
      looks++;
      return 1;
    },
  }));
  const shares = sharesOf(cells, new Map([["1", new Array(windows).fill(110)]]), { windows, isByName: true });
  expect([...shares]).toHaveLength(ranks);
  for (const counts of shares.values()) {
    expect(counts).toHaveLength(windows);
    for (const n of counts) expect(n).toBeCloseTo(10);
  }
  expect(looks).toBeLessThan(10 * cells.length);
});
