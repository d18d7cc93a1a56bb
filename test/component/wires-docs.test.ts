// docs/wires.md has a row for each wire of the gateway, with its paths, its content types and who may call.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { WIRES, type WireRules } from "../../services/gateway/wire-table.ts";

const page = readFileSync(fileURLToPath(new URL("../../docs/wires.md", import.meta.url)), "utf8");
const ROWS = [...page.matchAll(/^\| `([\w-]+)` +\| (.*?) +\| (.*?) +\| (.*?) +\| (.*?) +\|$/gm)];
const ACCESS = {
  key: "a key",
  "body key": "a key, or one in the body",
  "secret key": "a secret key",
  anyone: "nobody is asked",
};

function quoted(cell = ""): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text);
}

it("the table has every wire, with its paths, its keys and its content types", () => {
  const rows = ROWS.map(([, dialect = "", paths, key = "", types]) => {
    return { dialect, paths: quoted(paths), key, types: quoted(types) };
  });
  const wires = (Object.values(WIRES) as readonly WireRules[]).map(({ dialect, paths, access, keys, form }) => {
    const places = [...(keys?.headers ?? []), ...(keys?.query ?? []).map((name) => `?${name}=`)];
    const key = [ACCESS[access], ...places.map((place) => `\`${place}\``)].join(", ");
    return { dialect, paths: [...paths], key, types: (form?.types ?? []).filter((type) => type !== "") };
  });
  expect(rows).toEqual(wires);
});
