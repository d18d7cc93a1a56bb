import { describe, expect, it } from "vitest";
import { createRowParser } from "./parse.ts";

/** The row's fields as they are sent on, or why it is refused. */
function fieldsOf(text: string): string {
  const row = createRowParser("ndjson").parse(text);
  return row?.ok ? JSON.stringify(row.fields) : (row?.reason ?? "");
}

describe("a JSON row", () => {
  it.each([
    '{"n":9007199254740993,"d":0.1000000000000000055511151231257827,"one":1.0,"z":-0,"big":1e400,"p":0.5,"e":1E2}',
    '{"a":{"n":12345678901234567890,"b":[1.10,{"c":-0.0}]}}',
    '{"__proto__":{"a":1},"constructor":2}',
  ])("keeps every digit and key: %s", (text) => {
    expect(fieldsOf(text)).toBe(text);
  });

  it.each([
    ["[1]", "is not a JSON object"],
    ['{"a":NaN}', "is not JSON"],
    ['{"a":1,"a":2}', "a is there twice"],
    ['{"a":{"b":1,"\\u0062":2}}', "a.b is there twice"],
    ['{"a":1}x', "is not JSON"],
    ["", "is not JSON"],
  ])("is refused: %s", (text, reason) => {
    expect(fieldsOf(text)).toContain(reason);
  });
});
