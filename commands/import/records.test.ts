import { describe, expect, it } from "vitest";
import { createBoundaries } from "./boundaries.ts";
import { createRowParser, type ParsedRow } from "./parse.ts";
import { type Format, InputError, type RawRow, rowBytesMax, splitRows } from "./records.ts";

async function* inChunks(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function rowsOf(format: Format, input: string | Buffer, chunkBytes = 1 << 16): Promise<RawRow[]> {
  const rows: RawRow[] = [];
  const chunks = inChunks(Buffer.isBuffer(input) ? input : Buffer.from(input), chunkBytes);
  for await (const row of splitRows(chunks, createBoundaries(format))) rows.push(row);
  return rows;
}

async function read(format: Format, input: string | Buffer, chunkBytes?: number): Promise<string[]> {
  const parser = createRowParser(format);
  const seen: string[] = [];
  for (const { place, content } of await rowsOf(format, input, chunkBytes)) {
    const parsed: ParsedRow | undefined = content.ok ? parser.parse(content.text) : content;
    if (parsed !== undefined) seen.push(`${place}: ${parsed.ok ? JSON.stringify(parsed.fields) : parsed.reason}`);
  }
  return seen;
}

describe("JSON arrays", () => {
  const text = `\n[ {"a":"x,]}\\"["},\r\n {"b":[1,{"c":2}]}\n,\n{"d":"é😀"} ]\n`;
  const rows = [
    `line 2, element 1: {"a":"x,]}\\"["}`,
    `line 3, element 2: {"b":[1,{"c":2}]}`,
    `line 5, element 3: {"d":"é😀"}`,
  ];

  it.each([1, 2, 3, 7, 65536])("are cut at the same places in chunks of %d bytes", async (chunkBytes) => {
    expect(await read("json", text, chunkBytes)).toEqual(rows);
  });

  it("lose no more than the faulty element", async () => {
    expect(await read("json", `[{"a":1},{"b":},17,{"c":3},]`)).toEqual([
      `line 1, element 1: {"a":1}`,
      expect.stringContaining("element 2: is not JSON"),
      "line 1, element 3: is not a JSON object",
      `line 1, element 4: {"c":3}`,
    ]);
  });

  it("that were cut off are reported after what is whole", async () => {
    const seen = await read("json", `[{"a":1},{"b":2`);
    expect(seen[0]).toContain(`{"a":1}`);
    expect(seen[1]).toContain("element 2: is not JSON");
    expect(seen[2]).toContain("cut off");
    expect(await read("json", `[{"a":1}`)).toEqual([`line 1, element 1: {"a":1}`, expect.stringContaining("cut off")]);
  });

  it("followed by something else report it", async () => {
    expect(await read("json", `[{"a":1}] tail`)).toEqual([
      `line 1, element 1: {"a":1}`,
      expect.stringContaining("not JSON"),
    ]);
  });

  it.each(["[]", " [\n] ", "[ , ]"])("without elements have no rows: %j", async (input) => {
    expect(await read("json", input)).toEqual([]);
  });

  it.each([
    [`{"a":1}\n{"a":2}`, "--format ndjson"],
    ["", "empty"],
    ["x", "does not begin"],
  ])("are not guessed from %j", async (input, reason) => {
    await expect(read("json", input)).rejects.toThrow(InputError);
    await expect(read("json", input)).rejects.toThrow(reason);
  });

  it("give the rows that JSON.parse gives for every split of random documents", async () => {
    const pieces = ['"', "\\", "{", "}", "[", "]", ",", "é", " ", "\n"];
    let seed = 7;
    const next = (): number => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed;
    };
    for (let round = 0; round < 200; round += 1) {
      const made = Array.from({ length: next() % 6 }, () => {
        const key = Array.from({ length: next() % 8 }, () => pieces[next() % pieces.length]).join("");
        return { [key]: [key, { [key]: round }] };
      });
      const seen = await read("json", JSON.stringify(made, undefined, next() % 3), 1 + (next() % 9));
      expect(seen.map((line) => JSON.parse(line.replace(/^[^:]*: /, "")))).toEqual(made);
    }
  });
});

describe("NDJSON", () => {
  it("numbers rows by their lines and passes over blank ones", async () => {
    expect(await read("ndjson", `\ufeff{"a":1}\r\n\n  \n{"a":2}\nnope\n{"a":3}`)).toEqual([
      `line 1: {"a":1}`,
      `line 4: {"a":2}`,
      expect.stringContaining("line 5: is not JSON"),
      `line 6: {"a":3}`,
    ]);
  });

  it("refuses bytes that are no UTF-8", async () => {
    const input = Buffer.concat([Buffer.from(`{"a":"`), Buffer.from([0xff]), Buffer.from(`"}\n{"a":1}\n`)]);
    expect(await read("ndjson", input)).toEqual(["line 1: is not UTF-8 text", `line 2: {"a":1}`]);
  });

  it.each([
    [rowBytesMax, `"ok"`],
    [rowBytesMax + 1, "is longer than 16 MiB"],
  ])("of a row with %d bytes says %s", async (bytes, expected) => {
    const frame = `{"a":"ok","b":""}`;
    const long = frame.replace(`""`, `"${"x".repeat(bytes - frame.length)}"`);
    const seen = await read("ndjson", `${long}\n{"c":1}\n`);
    expect(seen[0]).toContain(expected);
    expect(seen[1]).toBe(`line 2: {"c":1}`);
  });

  it("keeps every digit of large integers", async () => {
    const row = `{"id":9007199254740993,"list":[12345678901234567890],"x":0.12345678901234567}`;
    const [seen = ""] = await read("ndjson", row);
    expect(seen).toContain(`"id":9007199254740993,"list":[12345678901234567890]`);
  });
});

describe("CSV", () => {
  const text = 'a,b\r\n1,"x\ny ""q"""\r\n\r\n,5" pipe\n"3,3",z\r\n';
  const rows = [`line 2: {"a":"1","b":"x\\ny \\"q\\""}`, `line 5: {"b":"5\\" pipe"}`, `line 6: {"a":"3,3","b":"z"}`];

  it.each([1, 2, 5, 65536])("cells hold quotes, commas and line breaks in chunks of %d bytes", async (chunkBytes) => {
    expect(await read("csv", text, chunkBytes)).toEqual(rows);
  });

  it("rows of another width are refused alone", async () => {
    expect(await read("csv", "a,b\n1\n1,2,3\n4,5\n")).toEqual([
      "line 2: has 1 cells where the header has 2",
      "line 3: has 3 cells where the header has 2",
      `line 4: {"a":"4","b":"5"}`,
    ]);
  });

  it("a quote that never closes is one refused row", async () => {
    expect(await read("csv", 'a,b\n1,2\n3,"open\n4,5\n')).toEqual([
      `line 2: {"a":"1","b":"2"}`,
      expect.stringContaining("line 3: is not CSV"),
    ]);
  });

  it.each([
    ["a,a\n1,2\n", "twice"],
    ["a,,column_2\n1,2,3\n", "column_2 is taken: give it one"],
  ])("the header %j is refused", async (input, reason) => {
    await expect(read("csv", input)).rejects.toThrow(reason);
  });
});
