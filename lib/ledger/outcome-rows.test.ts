import { expect, it } from "vitest";
import { DEAD_LETTER_COLUMNS, deadLetterRow } from "./outcome-rows.ts";

it("a long error is cut without leaving half a character, which ClickHouse would refuse", () => {
  const origin = { epoch: "e", topic: "t", partition: 3 };
  const record = { offset: 7, appendTimeMs: 0, key: Buffer.from("k"), value: Uint8Array.of(0, 255) };
  const line = Buffer.from(deadLetterRow(origin, record, "undecodable", `${"x".repeat(1999)}😀`)).toString();
  const row = JSON.parse(line) as unknown[];
  expect(row).toHaveLength(DEAD_LETTER_COLUMNS.length);
  expect(row[6]).toBe(`${"x".repeat(1999)}\ufffd`);
  expect(row.slice(7)).toEqual(["aw==", "AP8="]);
});
