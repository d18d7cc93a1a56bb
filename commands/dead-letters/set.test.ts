import { describe, expect, it } from "vitest";
import { parseChanges, SetError } from "./set.ts";

describe("--set", () => {
  it("takes the fields of a record, text as it is and properties as JSON", () => {
    const changes = parseChanges([
      ...["event= a=b ", "distinct_id=", "source=s", "value=-1.5e3", "time=1970-01-01T00:00:01Z"],
      ...['properties={"a":1}', "properties.b.c=[1]", 'properties.d="x=y"'],
    ]);
    expect(changes).toMatchObject({ event: " a=b ", distinctId: "", source: "s", value: -1500 });
    expect(changes.time?.us).toBe(1e6);
    expect(changes.properties).toBe('{"a":1}');
    expect([...changes.property]).toEqual([
      ["b.c", "[1]"],
      ["d", '"x=y"'],
    ]);
  });

  it("takes a value away with null, and of two for one field the later", () => {
    expect(parseChanges(["value=1", "value=null"]).value).toBe(null);
  });

  it.each([
    ["event", "needs a value"],
    ["evnt=x", "Did you mean event?"],
    ["colour=x", "Known: event, distinct_id, source, value, time, properties, properties.KEY"],
    ["constructor=x", "unknown field"],
    ["id=0192f0c1-2345-7abc-8def-0123456789ab", "cannot be changed"],
    ["api_key=k", "cannot be changed"],
    ["value=", "expected a finite number"],
    ["value=NaN", "expected a finite number"],
    ["value=1e999", "expected a finite number"],
    ["time=yesterday", "expected an RFC 3339 time"],
    ["properties=[1]", "expected a JSON object"],
    ["properties.a=x", "expected JSON"],
    ["properties.=1", "needs a key"],
    ["\u001b[2J=1", "--set \\u001b[2J: unknown field"],
  ])("refuses %j in words", (setting, expected) => {
    expect(() => parseChanges([setting])).toThrow(SetError);
    expect(() => parseChanges([setting])).toThrow(expected);
  });
});
