import { expect, it } from "vitest";
import { createOrigins } from "./cors.ts";

it.each([
  "https://app.example",
  "http://localhost:3000",
  "http://[::1]:3000",
  "capacitor://localhost",
  "chrome-extension://abcdef",
])("%s is allowed when listed, exactly so", (origin) => {
  const { allows, unmatchable } = createOrigins([origin]);
  expect(unmatchable).toEqual([]);
  expect(allows(origin)).toBe(true);
  for (const other of [`${origin}/`, origin.toUpperCase(), `${origin}:1`, "", "null", "*"]) {
    expect(allows(other)).toBe(false);
  }
});

it.each([
  "*",
  "null",
  "https://*.example",
  "https://app.example/",
  "https://app.example/path",
  "https://APP.example",
  "https://app.example:443",
  "app.example",
])("%s is no origin: it matches nothing and is named", (entry) => {
  const { allows, unmatchable } = createOrigins([entry, "https://b.example"]);
  expect(unmatchable).toEqual([entry]);
  expect([allows(entry), allows("https://b.example")]).toEqual([false, true]);
});
