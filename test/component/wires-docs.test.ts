// docs/wires.md has a row for each wire of the gateway, with its paths, its content types and who may call.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { WIRES, type WireRules } from "../../services/gateway/wire-table.ts";
import { CONTEXT_PROPERTIES } from "../../services/gateway/wires/segment-context.ts";

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

it("the table of a Segment message's context is the code's", () => {
  const [, table = ""] = page.split("| of `context`");
  const rows = [...(table.split("\n\n", 1)[0] ?? "").matchAll(/^\| (`.*?) +\| (`.*?) +\|$/gm)];
  const told = rows.map(([, from, to]) => [quoted(from), quoted(to)]);
  const read = Object.entries(CONTEXT_PROPERTIES).map(([name, target]) => {
    if (typeof target === "string") return [[name], [target]];
    return [Object.keys(target).map((key) => `${name}.${key}`), Object.values(target)];
  });
  expect(told).toEqual(read);
});
