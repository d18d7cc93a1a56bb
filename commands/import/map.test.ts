// Properties of an imported row are stored as the file has them, whatever columns are taken out of it.
import { expect, it } from "vitest";
import { type ColumnNames, createMapper } from "./map.ts";
import { createRowParser } from "./parse.ts";

const NONE: ColumnNames = {
  ...{ time: undefined, distinctId: undefined, value: undefined, source: undefined },
  ...{ eventColumn: undefined, id: undefined, properties: undefined },
};

function propertiesOf(text: string, columns: Partial<ColumnNames> = {}): unknown {
  const row = createRowParser("ndjson").parse(text);
  if (!row?.ok) throw new Error(row?.reason);
  const parseTime = () => ({ ok: true as const, instant: { seconds: 0n, nanos: 0 } });
  const mapped = createMapper("e", { ...NONE, ...columns }, parseTime).map(row.fields, {
    row: () => "",
    column: () => "",
  });
  if (!mapped.ok) throw new Error(mapped.reason);
  return mapped.event.propertiesKind.value;
}

const ROW = String.raw`{ "10":1 , "2":[ 1.10,"\u00e9\/" ], "u":"ann", "p":{"x\"\\y": 1E2, "time":"t", "k":"\ud83d\ude00","b":{ }}, "n\u0061me":-0 }`;

it.each<[string, Partial<ColumnNames>, string]>([
  [
    "as it stands",
    {},
    String.raw`{"10":1,"2":[ 1.10,"\u00e9\/" ],"u":"ann","p":{"x\"\\y": 1E2, "time":"t", "k":"\ud83d\ude00","b":{ }},"n\u0061me":-0}`,
  ],
  [
    "without a column",
    { distinctId: "u" },
    String.raw`{"10":1,"2":[ 1.10,"\u00e9\/" ],"p":{"x\"\\y": 1E2, "time":"t", "k":"\ud83d\ude00","b":{ }},"n\u0061me":-0}`,
  ],
  [
    "without a field of an object",
    { time: "p.time", distinctId: "u" },
    String.raw`{"10":1,"2":[ 1.10,"\u00e9\/" ],"p":{"x\"\\y":1E2,"k":"\ud83d\ude00","b":{ }},"n\u0061me":-0}`,
  ],
  [
    "with an object's fields lifted",
    { properties: "p", distinctId: "u", time: "p.time" },
    String.raw`{"10":1,"2":[ 1.10,"\u00e9\/" ],"n\u0061me":-0,"x\"\\y":1E2,"k":"\ud83d\ude00","b":{ }}`,
  ],
])("%s", (_, columns, expected) => {
  expect(propertiesOf(ROW, columns)).toBe(expected);
});

it("keys behind one with a backslash are those that were sent", () => {
  const text = String.raw`{"a\\b":{"c\td":1},"e":{"f":2,"g":{"h\\":3,"i":4}},"f":5}`;
  expect(propertiesOf(text)).toBe(text);
});
