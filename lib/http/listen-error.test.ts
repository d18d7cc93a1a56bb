import { expect, it } from "vitest";
import { describeListenError } from "./listen-error.ts";

const target = { host: "10.0.0.1", port: 80, setting: "PORT" };

it.each([
  [
    "EADDRINUSE",
    "Cannot listen on 10.0.0.1:80: another process, or another setting of this one, uses that port. Free it, or set PORT to another port (0 picks a free one).",
  ],
  [
    "EACCES",
    "Cannot listen on 10.0.0.1:80: this user may not open port 80. Set PORT to a port above 1023, or grant CAP_NET_BIND_SERVICE.",
  ],
  [
    "EADDRNOTAVAIL",
    "Cannot listen on 10.0.0.1:80: this machine has no such address. Set HOST to 127.0.0.1, :: or an address of this machine.",
  ],
  ["EMFILE", "Cannot listen on 10.0.0.1:80: original."],
])("%s is explained in one sentence with its remedy", (code, expected) => {
  const original = Object.assign(new Error("original"), { code });
  const error = describeListenError(original, target);
  expect([error.message, error.cause]).toEqual([expected, undefined]);
});
