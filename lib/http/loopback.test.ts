import { expect, it } from "vitest";
import { isOwnPage } from "./loopback.ts";

it.each([
  ["http://127.0.0.1:8081", "127.0.0.1:8081", true],
  ["http://localhost:8081", "LOCALHOST:8081", true],
  ["http://[::1]:8081", "[::1]:8081", true],
  ["http://10.0.0.7:8081", "10.0.0.7:8081", true],
  ["https://stats", "stats", true],
  ["http://127.0.0.1:9", "127.0.0.1:8081", false],
  ["http://evil.example", "127.0.0.1:8081", false],
  // A name that somebody has pointed here.
  ["http://evil.example:8081", "evil.example:8081", false],
  ["null", "127.0.0.1:8081", false],
  ["", "", false],
  [undefined, "127.0.0.1:8081", false],
])("a page of %s that asks %s is our own: %s", (origin, host, isOwn) => {
  expect(isOwnPage({ origin, host })).toBe(isOwn);
});
