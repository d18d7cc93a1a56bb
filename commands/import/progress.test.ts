import { expect, it } from "vitest";
import { createDisplay, statusText } from "./progress.ts";

it.each([
  [500, 100, 0.25, 5, "[######..................] 25 %  500 lines  100/s  15 s left"],
  [2_000_000, 5000, 0.5, 3700, "[############............] 50 %  2000000 lines  5000/s  1 h 1 min left"],
  [0, 0, 0.1, 1, "[##......................] 10 %  0 lines  0/s"],
  [10, 5, undefined, 2, "10 lines  5/s"],
])("%d lines at %d/s, %s of the input read in %d s: %s", (rows, rate, fraction, seconds, expected) => {
  expect(statusText(rows, rate, fraction, seconds)).toBe(expected);
});

it("writes a bar over itself on a terminal and takes it away before a line", async () => {
  const written: string[] = [];
  let wake: (() => void) | undefined;
  const bar = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const sink = {
    isTTY: true,
    columns: () => 60,
    write(text: string) {
      written.push(text);
      if (text.startsWith("[")) wake?.();
    },
  };
  const display = createDisplay(sink, () => 0.5, 0);
  await bar;
  display.refused("line 3", "is not JSON");
  display.close();
  const text = written.join("");
  expect(text).toContain("[############............] 50 %");
  expect(text.indexOf("\r\u001b[2K")).toBeGreaterThan(0);
  expect(text.endsWith("refused line 3: is not JSON\n")).toBe(true);
});

it("shows twenty refused rows, then one line for all others", () => {
  const written: string[] = [];
  const display = createDisplay({ write: (text) => written.push(text) }, () => undefined, 0);
  for (let line = 1; line <= 30; line += 1) display.refused(`line ${line}`, "is not JSON");
  display.close();
  expect(written).toHaveLength(21);
  expect(written.at(-1)).toBe("further refused rows are counted, not shown\n");
});
