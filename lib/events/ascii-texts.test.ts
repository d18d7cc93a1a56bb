import fc from "fast-check";
import { expect, it } from "vitest";
import { AsciiTexts } from "./ascii-texts.ts";

it("cuts what decoding gives, wherever pieces lie and however long they are", () => {
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => 32 + ((i * 7) % 95)));
  const end = bytes.length - 5;
  const place = fc.oneof(fc.nat(end), fc.nat(200));
  fc.assert(
    fc.property(fc.array(fc.tuple(place, place), { maxLength: 20 }), (pieces) => {
      const texts = new AsciiTexts(bytes, end);
      for (const [a, b] of pieces) {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        expect(texts.cut(from, to) === bytes.toString("latin1", from, to)).toBe(true);
      }
    }),
  );
});
