import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseUuid } from "#lib/events/ids.ts";
import { atMost } from "../../test/kit/patience.ts";
import { APPEND_TIME_MARGIN_MS, createIdWindow, windowId } from "./id-window.ts";

const idOf = (n: number) =>
  windowId(parseUuid(`00000000-0000-4000-8000-${String(n).padStart(12, "0")}`) as Uint8Array, "k");
const [a, b] = [idOf(1), idOf(2)];
const bounds = { ageMsMax: 1000, offsetsMax: 10 };

describe("the id window", () => {
  it("finds the row with the id below the offset and within both bounds", () => {
    const window = createIdWindow(bounds);
    window.add(a, 5, 100);
    expect(window.firstOffset(a, 15, 1100)).toBe(5);
    expect(window.firstOffset(a, 16, 1100)).toBeUndefined();
    expect(window.firstOffset(a, 15, 1101)).toBeUndefined();
    expect(window.firstOffset(a, 5, 100)).toBeUndefined();
    expect(window.firstOffset(a, 4, 100)).toBeUndefined();
    expect(window.firstOffset(b, 6, 100)).toBeUndefined();
  });

  it("keeps the later of two rows with one id", () => {
    const window = createIdWindow(bounds);
    window.add(a, 1, 0);
    window.add(a, 20, 0);
    expect(window.firstOffset(a, 25, 0)).toBe(20);
  });

  it("holds no more entries than offsetsMax + 1, however many rows come", () => {
    const window = createIdWindow({ ageMsMax: 1e12, offsetsMax: 1000 });
    for (let offset = 0; offset < 100_000; offset++) window.add(idOf(offset), offset, offset);
    expect(window.size).toBe(1001);
  });

  it("forgets what is too old for any later record", () => {
    const window = createIdWindow({ ageMsMax: 1000, offsetsMax: 1e9 });
    for (let n = 0; n < 5000; n++) window.add(idOf(n), n, n * 1000);
    expect(window.size).toBe(APPEND_TIME_MARGIN_MS / 1000 + 2);
  });

  it("tells ids of different keys apart", () => {
    const uuid = parseUuid("00000000-0000-4000-8000-000000000001") as Uint8Array;
    const window = createIdWindow(bounds);
    window.add(windowId(uuid, "a"), 1, 0);
    expect(window.firstOffset(windowId(uuid, "b"), 2, 0)).toBeUndefined();
    expect(window.firstOffset(windowId(uuid, ""), 2, 0)).toBeUndefined();
    expect(window.firstOffset(windowId(uuid, "a"), 2, 0)).toBe(1);
  });

  it("agrees with a plain Map over any run of rows, grown and shrunk", () => {
    const step = fc.record({ id: fc.nat(4000), gap: fc.integer({ min: 1, max: 30 }) });
    const offsetsMax = 20_000;
    fc.assert(
      fc.property(fc.array(step, { minLength: 3000, maxLength: 6000 }), (steps) => {
        const window = createIdWindow({ ageMsMax: 1e12, offsetsMax });
        const plain = new Map<number, number>();
        let offset = 0;
        for (const { id, gap } of steps) {
          offset += gap;
          const last = plain.get(id);
          const expected = last !== undefined && offset - last <= offsetsMax ? last : undefined;
          expect(window.firstOffset(idOf(id), offset, 0)).toBe(expected);
          if (expected !== undefined) continue;
          window.add(idOf(id), offset, 0);
          plain.set(id, offset);
        }
      }),
      { numRuns: 20 },
    );
  });

  it("takes no longer for a row when it is full than when it is empty", () => {
    const window = createIdWindow({ ageMsMax: 1e12, offsetsMax: 200_000 });
    const timeOf = (from: number, to: number) => {
      const ids = Array.from({ length: to - from }, (_, n) => idOf(from + n));
      const begun = performance.now();
      for (const [n, id] of ids.entries()) window.add(id, from + n, 0);
      return performance.now() - begun;
    };
    timeOf(0, 200_000);
    // A Map that is scanned from its start for its oldest entry takes several seconds for these.
    expect(timeOf(200_000, 300_000)).toBeLessThan(atMost(1000));
  });

  it("decides as one that has seen nothing but the rows a rebuild reads", () => {
    const steps = fc.array(
      fc.record({
        id: fc.integer({ min: 0, max: 5 }),
        gap: fc.integer({ min: 1, max: 4 }),
        ms: fc.integer({ min: 0, max: 600 }),
      }),
      { minLength: 1, maxLength: 60 },
    );
    fc.assert(
      fc.property(steps, fc.nat(59), (records, restartAt) => {
        const run = (restarts: boolean): string[] => {
          let window = createIdWindow(bounds);
          const rows: [string, number, number][] = [];
          let [offset, timeMs] = [0, 0];
          return records.map(({ id, gap, ms }, n) => {
            offset += gap;
            timeMs += ms;
            if (restarts && n === restartAt) {
              window = createIdWindow(bounds);
              const since = timeMs - bounds.ageMsMax - APPEND_TIME_MARGIN_MS;
              for (const row of rows) if (row[1] >= offset - bounds.offsetsMax && row[2] >= since) window.add(...row);
            }
            const first = window.firstOffset(idOf(id), offset, timeMs);
            if (first !== undefined) return `${offset} is ${first}`;
            rows.push([idOf(id), offset, timeMs]);
            window.add(idOf(id), offset, timeMs);
            return `${offset} is a row`;
          });
        };
        expect(run(true)).toEqual(run(false));
      }),
    );
  });
});
