import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sanitize } from "./sanitize.ts";

const NONE: ReadonlySet<string> = new Set();
const clean = (value: unknown) => sanitize({ value }, NONE).value;

function shape(value: unknown, depth = 0): { keys: number; depth: number } {
  if (typeof value !== "object" || value === null) return { keys: 0, depth };
  const inner = Object.values(value).map((each) => shape(each, depth + 1));
  const own = Array.isArray(value) ? 0 : Object.keys(value).length;
  return {
    keys: inner.reduce((sum, { keys }) => sum + keys, own),
    depth: Math.max(depth, ...inner.map((each) => each.depth)),
  };
}

describe("sanitize", () => {
  it("makes of anything JSON within the server's limits, and the same again of what it made", () => {
    const anything = fc.dictionary(
      fc.string(),
      fc.anything({ withBigInt: true, withDate: true, withSparseArray: true }),
    );
    fc.assert(
      fc.property(anything, (properties) => {
        const made = sanitize(properties, NONE);
        const text = JSON.stringify(made);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(sanitize(made, NONE))));
        expect(text).not.toContain('"__proto__":');
        const { depth, keys } = shape(made);
        expect([keys <= 1000, depth <= 32]).toEqual([true, true]);
      }),
    );
  });

  it("says where it met a value again that it is inside of, and keeps one that merely occurs twice", () => {
    const cycle: Record<string, unknown> = { nested: {} };
    cycle.self = cycle;
    const shared = { a: 1 };
    expect(clean({ cycle, list: [shared, shared] })).toEqual({
      cycle: { nested: {}, self: "[Circular]" },
      list: [{ a: 1 }, { a: 1 }],
    });
  });

  it("writes bigint, dates, toJSON and non-finite numbers as JSON can", () => {
    const url = new URL("http://a.example/b");
    expect(clean([10n, new Date(0), new Date(Number.NaN), url, Number.NaN, undefined, () => 1, Symbol("s")])).toEqual([
      "10",
      "1970-01-01T00:00:00.000Z",
      null,
      "http://a.example/b",
      null,
      null,
      null,
      null,
    ]);
    expect(clean({ gone: undefined, also: () => 1 })).toEqual({});
  });

  it("cuts strings at 65,535 characters, never between the halves of one", () => {
    expect((clean("x".repeat(70_000)) as string).length).toBe(65_535);
    expect((clean("\u{1f600}".repeat(40_000)) as string).length).toBe(65_534);
  });

  it("leaves out denied names at every depth, but for the distinct id of the event", () => {
    const properties = {
      distinct_id: "u",
      secret: 1,
      $set: { secret: 2, list: [{ secret: 3, kept: 4, distinct_id: 5 }] },
    };
    expect(sanitize(properties, new Set(["secret", "distinct_id"]))).toEqual({
      distinct_id: "u",
      $set: { list: [{ kept: 4 }] },
    });
  });

  it("loses one value, not the event, to a getter, a proxy or a toJSON that throws", () => {
    const fail = () => {
      throw new Error("no");
    };
    const trap = Object.defineProperty({ kept: 1 }, "bad", { enumerable: true, get: fail });
    const proxy = new Proxy({}, { ownKeys: fail });
    expect(clean([trap, proxy, { toJSON: fail }])).toEqual([
      { kept: 1, bad: "[Unreadable]" },
      "[Unreadable]",
      "[Unreadable]",
    ]);
  });

  it("stays below the bytes of one event, whatever it is given", () => {
    const huge = Array.from({ length: 200 }, () => "\u{ffff}".repeat(65_535));
    expect(Buffer.byteLength(JSON.stringify(sanitize({ huge }, NONE)))).toBeLessThan(800_000);
  });
});
