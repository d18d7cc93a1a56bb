import { expect, it } from "vitest";
import { createWireTable, WIRES, type WireRules } from "./wire-table.ts";

const rules = (dialect: string, ...paths: string[]): { rules: WireRules } => ({
  rules: { dialect, paths, access: "anyone" },
});
const find = createWireTable([
  rules("plain", "/e/", "/e", "/a.b/c"),
  rules("parts", "/array/{key}/config", "/array/{key}/config.js", "/api/s/{type}", "/api/s/s2s/{type}"),
]);

it.each([
  ["/e/", "plain", []],
  ["/a.b/c", "plain", []],
  ["/array/KEY/config", "parts", ["KEY"]],
  ["/array/KEY/config.js", "parts", ["KEY"]],
  ["/api/s/track", "parts", ["track"]],
  ["/api/s/s2s/track", "parts", ["track"]],
])("%s is a path of %s", (path, dialect, parts) => {
  expect([find(path)?.wire.rules.dialect, find(path)?.parts]).toEqual([dialect, parts]);
});

it.each([
  "/e//",
  "/aXb/c",
  "/array//config",
  "/array/a/b/config",
  "/array/KEY/configXjs",
  "/api/s/",
  "/api/s/s2s/",
  "",
])("%j is no path", (path) => {
  // "s2s" alone is a type like another.
  expect(find(path)).toBeUndefined();
});

it("no path has two wires, and every wire has a dialect of its own", () => {
  const all = Object.values(WIRES) as readonly WireRules[];
  const paths = all.flatMap((each) => each.paths);
  expect(new Set(paths).size).toBe(paths.length);
  expect(new Set(all.map(({ dialect }) => dialect)).size).toBe(all.length);
});
