import { expect, it } from "vitest";
import { urlHost } from "./addresses.ts";

// A container has ::1 only where IPv6 is not switched off.
it.each([
  ["::", "127.0.0.1"],
  ["0.0.0.0", "127.0.0.1"],
  ["::1", "[::1]"],
  ["[fd00::1]", "[fd00::1]"],
  ["10.0.0.1", "10.0.0.1"],
])("what listens on %s is called by %s", (host, expected) => expect(urlHost(host)).toBe(expected));
