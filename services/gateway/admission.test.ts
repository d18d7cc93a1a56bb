import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createAdmission } from "./admission.ts";

describe("admission", () => {
  it("opens for what still fits and not for more", () => {
    const admission = createAdmission(100);
    admission.open(0)?.grow(60);
    expect(admission.open(41)).toBeUndefined();
    expect(admission.open(40)).toBeDefined();
  });

  it("counts what came, not what was declared", () => {
    const admission = createAdmission(100);
    const lease = admission.open(90);
    expect(lease?.grow(1)).toBe(true);
    expect(admission.inFlightBytes).toBe(1);
    expect(admission.open(90)).toBeDefined();
  });

  it("always opens for one request alone, and lets it grow", () => {
    const admission = createAdmission(100);
    const lease = admission.open(500);
    expect(lease?.grow(600)).toBe(true);
    expect(admission.open(1)).toBeUndefined();
    lease?.release();
    expect(admission.open(1)).toBeDefined();
  });

  it.each([
    [9, true],
    [10, true],
    [11, false],
  ])("growing by %d bytes where 10 are left is answered %s", (bytes, fits) => {
    const admission = createAdmission(100);
    admission.open(0)?.grow(90);
    expect(admission.open(0)?.grow(bytes)).toBe(fits);
  });

  it("has nothing in flight after every lease has ended, however they grew", () => {
    const step = fc.record({
      lease: fc.nat(4),
      act: fc.constantFrom("open", "grow", "reset", "release"),
      bytes: fc.nat(200),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const admission = createAdmission(300);
        const leases = new Map<number, NonNullable<ReturnType<typeof admission.open>>>();
        for (const { lease, act, bytes } of steps) {
          const open = leases.get(lease);
          if (act === "open" && !open) {
            const opened = admission.open(bytes);
            if (opened) leases.set(lease, opened);
          } else if (act === "grow") open?.grow(bytes);
          else if (act === "reset") open?.reset();
          else if (act === "release") open?.release();
          expect(admission.inFlightBytes).toBeGreaterThanOrEqual(0);
        }
        for (const open of leases.values()) open.release();
        for (const open of leases.values()) open.release();
        expect(admission.inFlightBytes).toBe(0);
      }),
    );
  });
});
