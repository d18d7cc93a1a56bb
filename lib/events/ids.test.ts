import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createUuidV7, formatUuid, parseUuid, personIdOf, uuidV5 } from "./ids.ts";

describe("uuid text", () => {
  it("comes back as it was, in lower case, for any 16 bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        const text = formatUuid(bytes);
        expect(text).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
        expect([...(parseUuid(text.toUpperCase()) ?? [])]).toEqual([...bytes]);
      }),
    );
  });

  it("is read from a view into a larger buffer", () => {
    const buffer = Buffer.from(`ff${"01".repeat(16)}ff`, "hex");
    expect(formatUuid(buffer.subarray(1, 17))).toBe("01010101-0101-0101-0101-010101010101");
  });

  it.each([
    ["empty", ""],
    ["without dashes", "0192f0c123457abc8def0123456789ab"],
    ["in braces", "{0192f0c1-2345-7abc-8def-0123456789ab}"],
    ["with an invalid digit", "0192f0c1-2345-7abc-8def-0123456789ag"],
    ["with a dash at the wrong place", "0192f0c1-23457-abc-8def-0123456789ab"],
    ["with a line break after it", "0192f0c1-2345-7abc-8def-0123456789ab\n"],
    ["of fullwidth digits", "０192f0c1-2345-7abc-8def-0123456789ab"],
  ])("is refused when %s", (_case, text) => {
    expect(parseUuid(text)).toBeUndefined();
  });
});

describe("uuid v7", () => {
  it("carries version, variant and the time it was made", () => {
    const at = Date.UTC(2026, 10, 21);
    const text = formatUuid(createUuidV7(() => at)());
    expect(text).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(Number.parseInt(text.replace("-", "").slice(0, 12), 16)).toBe(at);
  });

  it("goes up with every call, however the clock jumps", () => {
    const steps = fc.array(fc.integer({ min: -5_000, max: 5_000 }), { minLength: 2, maxLength: 200 });
    fc.assert(
      fc.property(steps, (jumps) => {
        let now = 1_800_000_000_000;
        const next = createUuidV7(() => now);
        let last = "";
        for (const jump of jumps) {
          now += jump;
          const text = formatUuid(next());
          expect(text > last).toBe(true);
          last = text;
        }
      }),
    );
  });

  it("goes up within one millisecond beyond the counter's 4,096 values", () => {
    const next = createUuidV7(() => 1_800_000_000_000);
    const texts = Array.from({ length: 10_000 }, () => formatUuid(next()));
    expect(texts).toEqual([...texts].sort());
    expect(new Set(texts).size).toBe(texts.length);
  });

  it("differs between processes that start in the same millisecond", () => {
    const now = () => 1_800_000_000_000;
    expect(formatUuid(createUuidV7(now)())).not.toBe(formatUuid(createUuidV7(now)()));
  });
});

describe("uuidV5", () => {
  it.each([
    // RFC 9562, appendix A.4; the others by Python's uuid.uuid5.
    ["www.example.com", "2ed6657d-e927-568b-95e1-2665a8aea6a2"],
    ["é\u0000日本語", "76730737-2d4c-53e3-81e7-34c7208aafed"],
    ["", "4ebd0208-8328-5d69-8c44-ec50939c0967"],
  ])("of %j in the namespace of DNS is %s", (name, expected) => {
    const namespace = parseUuid("6ba7b810-9dad-11d1-80b4-00c04fd430c8") as Uint8Array;
    expect(formatUuid(uuidV5(namespace, name))).toBe(expected);
  });
});

describe("person id", () => {
  it.each([
    ["user_123", "c0486609-82cd-5d27-a86e-f354f09b7ee0"],
    ["anon_1", "06c0f1ab-4389-535e-8df7-8a9aabf55847"],
    ["a", "86f7e437-faa5-57fc-a15d-1ddcb9eaeaea"],
    [" user_123", "d348334b-1502-5867-bdb8-602f3dd29d8b"],
    ["é", "bf15be71-7ac1-5080-b4f1-c45669282589"],
    ["日本語", "c12140a0-ffb4-5564-81b4-fe0a7a25040c"],
    ["", "00000000-0000-0000-0000-000000000000"],
  ])("of %j is %s", (distinctId, expected) => {
    expect(personIdOf(distinctId)).toBe(expected);
  });

  it("is a version 5 UUID for any distinct id", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", minLength: 1 }), (distinctId) => {
        expect(personIdOf(distinctId)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      }),
    );
  });
});
