import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Admission, createAdmission, type Holder, type Lease } from "./admission.ts";

const SECRET: Holder = { kind: "key", key: "secret", address: undefined };
const OTHER: Holder = { kind: "key", key: "other", address: undefined };
const publicFrom = (address: string): Holder => ({ kind: "key", key: "public", address });
const strangerFrom = (address: string): Holder => ({ kind: "stranger", address });
const pageFrom = (address: string): Holder => ({ kind: "origin", address });

function hold(admission: Admission, holder: Holder, bytes: number): Lease {
  const lease = admission.open(holder, 0);
  if (!lease?.grow(bytes)) throw new Error("no room");
  return lease;
}

describe("one key", () => {
  it("opens for what still fits and not for more", () => {
    const admission = createAdmission(100);
    hold(admission, SECRET, 60);
    expect(admission.open(SECRET, 41)).toBeUndefined();
    expect(admission.open(SECRET, 40)).toBeDefined();
  });

  it("counts what came, not what was declared", () => {
    const admission = createAdmission(100);
    const lease = admission.open(SECRET, 90);
    expect(lease?.grow(1)).toBe(true);
    expect(admission.inFlightBytes).toBe(1);
    expect(admission.open(SECRET, 90)).toBeDefined();
  });

  it("always opens for one request alone, and lets it grow", () => {
    const admission = createAdmission(100);
    const lease = admission.open(SECRET, 500);
    expect(lease?.grow(600)).toBe(true);
    expect(admission.open(SECRET, 1)).toBeUndefined();
    lease?.release();
    expect(admission.open(SECRET, 1)).toBeDefined();
  });

  it.each([
    [9, true],
    [10, true],
    [11, false],
  ])("growing by %d bytes where 10 are left is answered %s", (bytes, fits) => {
    const admission = createAdmission(100);
    hold(admission, SECRET, 90);
    expect(admission.open(SECRET, 0)?.grow(bytes)).toBe(fits);
  });
});

describe("what one holds, another is not refused for", () => {
  const everything: [string, Holder, number][] = [
    ["a key with one huge request", SECRET, 1000],
    ["a public key from one address", publicFrom("10.0.0.1"), 1000],
    ["a stranger", strangerFrom("10.0.0.1"), 1000],
    ["a listed page", pageFrom("10.0.0.1"), 1000],
  ];
  const others: [string, Holder, number][] = [
    ["another key", OTHER, 25],
    ["another address with the same public key", publicFrom("10.0.0.2"), 25],
    ["another stranger", strangerFrom("10.0.0.2"), 12],
    ["another page's visitor", pageFrom("10.0.0.2"), 25],
  ];
  const pairs = everything.flatMap((one) => others.map((other) => [one[0], other[0], one, other] as const));
  it.each(pairs)("%s, %s", (_one, _other, [, holder, bytes], [, next, room]) => {
    const admission = createAdmission(100);
    hold(admission, holder, bytes);
    expect(admission.open(next, room)?.grow(room)).toBe(true);
  });

  it("all other keys together leave a key its quarter, in as many requests as it likes", () => {
    const admission = createAdmission(100);
    for (let i = 0; i < 4; i++) hold(admission, { kind: "key", key: `k${i}`, address: undefined }, 25);
    for (let i = 0; i < 25; i++) hold(admission, SECRET, 1);
    expect(admission.open(SECRET, 0)?.grow(1)).toBe(false);
  });

  it.each([
    ["strangers", strangerFrom, 25],
    ["pages", pageFrom, 50],
    ["addresses with one public key", publicFrom, 100],
  ] as const)("all %s together have a bound, one of them half of it", (_who, from, max) => {
    const admission = createAdmission(100);
    const half = Math.floor(max / 2);
    hold(admission, from("10.0.0.1"), half - 2);
    hold(admission, from("10.0.0.1"), 2);
    expect(admission.open(from("10.0.0.1"), 0)?.grow(1)).toBe(false);
    admission.open(from("10.0.0.1"), 0)?.release();
    for (let i = 0; i < 100 && admission.open(from(`10.1.0.${i}`), 0)?.grow(1); i++);
    expect(admission.inFlightBytes).toBeLessThanOrEqual(max + 2);
  });

  it("an IPv6 network is one caller", () => {
    const admission = createAdmission(100);
    hold(admission, strangerFrom("2001:db8::1"), 6);
    hold(admission, strangerFrom("2001:db8::2"), 6);
    expect(admission.open(strangerFrom("2001:db8::3"), 1)).toBeUndefined();
    expect(admission.open(strangerFrom("2001:db8:0:1::3"), 1)).toBeDefined();
  });

  it("a stranger whose key is found takes no stranger's room any more", () => {
    const admission = createAdmission(100);
    const lease = hold(admission, strangerFrom("10.0.0.1"), 12);
    expect(admission.open(strangerFrom("10.0.0.1"), 12)).toBeUndefined();
    expect(lease.moveTo(SECRET)).toBe(true);
    expect(admission.open(strangerFrom("10.0.0.1"), 12)).toBeDefined();
    expect(admission.open(SECRET, 89)).toBeUndefined();
  });

  it("and is refused when the key has no room left", () => {
    const admission = createAdmission(100);
    hold(admission, SECRET, 95);
    expect(hold(admission, strangerFrom("10.0.0.1"), 12).moveTo(SECRET)).toBe(false);
  });
});

it("has nothing in flight after every lease has ended, however they grew and moved", () => {
  const holders = [SECRET, OTHER, publicFrom("a"), publicFrom("b"), strangerFrom("a"), pageFrom("a")];
  const step = fc.record({
    lease: fc.nat(4),
    act: fc.constantFrom("open", "grow", "move", "reset", "release"),
    bytes: fc.nat(200),
    holder: fc.constantFrom(...holders),
  });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const admission = createAdmission(300);
      const leases = new Map<number, Lease>();
      for (const { lease, act, bytes, holder } of steps) {
        const open = leases.get(lease);
        if (act === "open" && !open) {
          const opened = admission.open(holder, bytes);
          if (opened) leases.set(lease, opened);
        } else if (act === "grow") open?.grow(bytes);
        else if (act === "move") open?.moveTo(holder);
        else if (act === "reset") open?.reset();
        else if (act === "release") open?.release();
        expect(admission.inFlightBytes).toBeGreaterThanOrEqual(0);
      }
      for (const open of leases.values()) open.release();
      for (const open of leases.values()) open.release();
      expect(admission.inFlightBytes).toBe(0);
      for (const holder of holders) hold(admission, holder, 1000).release();
    }),
  );
});
