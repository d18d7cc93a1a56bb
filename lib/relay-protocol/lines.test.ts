import fc from "fast-check";
import { expect, it } from "vitest";
import { createLineSplitter } from "./lines.ts";

function split(chunks: readonly (string | Uint8Array)[], maxBytes = 100) {
  const splitter = createLineSplitter(maxBytes);
  const lines: string[] = [];
  const taken = chunks.map((chunk) => splitter.push(Buffer.from(chunk), (line) => lines.push(line)));
  return { lines, isGood: taken.every(Boolean) };
}

it("gives the same lines however the bytes are cut", () => {
  const line = fc.string({ unit: "grapheme", maxLength: 20 }).map((text) => text.replaceAll("\n", "\r"));
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat(200)), (lines, cuts) => {
      const bytes = Buffer.from(lines.map((each) => `${each}\n`).join(""));
      const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
      const chunks = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
      expect(split(chunks, 1_000)).toEqual({ lines: lines.map((each) => Buffer.from(each).toString()), isGood: true });
    }),
  );
});

it("keeps an unfinished line to itself, and a CR in its line", () => {
  expect(split(["a\r\nb"]).lines).toEqual(["a\r"]);
});

it.each([
  ["in one chunk", ["ok\n", `${"x".repeat(101)}\nlater\n`]],
  ["in one chunk without an end", ["ok\n", "x".repeat(101)]],
  ["in two chunks", ["ok\n", "x".repeat(60), `${"x".repeat(41)}\nlater\n`]],
  ["byte by byte", ["ok\n", ...Array.from({ length: 101 }, () => "x")]],
])("refuses a line over the limit, %s, and hands on what was before it", (_claim, chunks) => {
  expect(split(chunks)).toEqual({ lines: ["ok"], isGood: false });
});

it("takes a line of exactly the limit, in one chunk or byte by byte", () => {
  const line = "x".repeat(100);
  expect(split([`${line}\n`])).toEqual({ lines: [line], isGood: true });
  expect(split([...line, "\n"])).toEqual({ lines: [line], isGood: true });
});
