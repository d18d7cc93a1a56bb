import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { identify, rowId } from "./identity.ts";

it("gives a row the id it has always had", async () => {
  const file = await identify(Readable.from([Buffer.from('{"a":1}\n'), Buffer.from('{"a":2}\n')]));
  expect(file).toEqual({ sha256: "e91bd3062f38c3f1df2165d987872b022fb39a08c642a6fbc3b862dd2a2aaf24", bytes: 16 });
  expect(rowId(file, "seen", 2)).toBe("0d91ef02-9bf6-51be-8d6e-8875ee2d13e6");
});

it("gives different ids to other rows, events and files", () => {
  const file = { sha256: "a", bytes: 1 };
  const ids = [
    rowId(file, "e", 1),
    rowId(file, "e", 11),
    rowId(file, "1:e", 1),
    rowId({ ...file, bytes: 2 }, "e", 1),
    rowId({ ...file, sha256: "b" }, "e", 1),
  ];
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
