import type { LookupAddress } from "node:dns";
import { describe, expect, it } from "vitest";
import { guardedLookup, RefusedAddressError, refuseAddress, refusedKind } from "./webhook-address.ts";

/** First and last address of each refused range of IPv4, and the addresses just outside of it, where these are allowed. */
const IPV4_EDGES: [first: string, last: string, before: string | undefined, after: string | undefined][] = [
  ["0.0.0.0", "0.255.255.255", undefined, "1.0.0.0"],
  ["10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"],
  ["100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"],
  ["127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"],
  ["169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"],
  ["172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"],
  ["192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"],
  ["192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"],
  ["192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"],
  ["192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"],
  ["198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"],
  ["198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"],
  ["203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"],
  ["224.0.0.0", "255.255.255.255", "223.255.255.255", undefined],
];

const REFUSED_IPV6 = [
  ...["::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:8.8.8.8", "::ffff:0:1.2.3.4"],
  ...["64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "1fff:ffff::1", "4000::1", "5f00::1", "fc00::1", "fdff::1"],
  ...["fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1", "2001::1", "2001:1ff:ffff::1", "2001:db8::1"],
  ...["2001:0db8:ffff:ffff:ffff:ffff:ffff:ffff", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "3fff:fff::1"],
  ...["fe80::1%eth0", "2600::1%eth0", "fd00:ec2::254"],
];

const ALLOWED_IPV6 = ["2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1"];

describe("an address", () => {
  it.each(IPV4_EDGES)("from %s to %s is refused, and its neighbours are not", (first, last, before, after) => {
    for (const address of [first, last]) expect(refusedKind(address), address).toMatch(/^an? /);
    for (const address of [before, after]) if (address) expect(refusedKind(address), address).toBeUndefined();
  });

  it.each(REFUSED_IPV6)("of IPv6 that is not reachable from everywhere is refused: %s", (address) => {
    expect(refusedKind(address)).toBeDefined();
  });

  it.each(ALLOWED_IPV6)("of IPv6 that is reachable from everywhere is allowed: %s", (address) => {
    expect(refusedKind(address)).toBeUndefined();
  });

  it("that is not a URL is refused", () => {
    for (const text of ["", "localhost", "1.2.3", "1.2.3.4.5", "::g"]) expect(refusedKind(text), text).toBeDefined();
  });

  it.each([
    ...["http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://0177.0.0.1/"],
    ...["http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest", "http://user:p@10.0.0.1:80/"],
  ])("however a URL writes it is refused: %s", (url) => {
    expect(() => refuseAddress(new URL(url).hostname)).toThrow(RefusedAddressError);
  });

  it("in a URL that may be called passes, and names are left to the lookup", () => {
    for (const url of ["http://8.8.8.8/", "https://[2606:4700::1111]/", "http://localhost/", "http://a.example/"])
      expect(() => refuseAddress(new URL(url).hostname)).not.toThrow();
  });
});

describe("a lookup", () => {
  const answering = (...addresses: string[]) =>
    guardedLookup((_hostname, _options, callback) =>
      callback(
        null,
        addresses.map((address): LookupAddress => ({ address, family: address.includes(":") ? 6 : 4 })),
      ),
    );
  const ask = (lookup: ReturnType<typeof answering>, all: boolean) =>
    new Promise((resolve) =>
      lookup("hook.example", { all }, (error, address, family) => resolve(error ?? [address, family])),
    );

  it("gives the socket the addresses it has checked, one or all", async () => {
    const lookup = answering("8.8.8.8", "2606:4700::1111");
    expect(await ask(lookup, false)).toEqual(["8.8.8.8", 4]);
    expect(await ask(lookup, true)).toEqual([
      [
        { address: "8.8.8.8", family: 4 },
        { address: "2606:4700::1111", family: 6 },
      ],
      undefined,
    ]);
  });

  it("refuses a name with one refused address among others, and says which", async () => {
    for (const all of [true, false]) {
      expect(await ask(answering("8.8.8.8", "::1"), all)).toMatchObject({
        name: "RefusedAddressError",
        message: expect.stringContaining("hook.example resolves to ::1, which is a loopback address"),
      });
    }
  });

  it("asks again for each connection: what a name resolved to before does not count", async () => {
    const answers = ["8.8.8.8", "10.0.0.1"];
    const lookup = guardedLookup((_hostname, _options, callback) =>
      callback(null, [{ address: answers.shift() ?? "", family: 4 }]),
    );
    expect(await ask(lookup, false)).toEqual(["8.8.8.8", 4]);
    expect(await ask(lookup, false)).toMatchObject({ name: "RefusedAddressError" });
  });

  it("hands on its failure, and takes no address for one", async () => {
    const failing = guardedLookup((_hostname, _options, callback) => callback(new Error("ENOTFOUND"), []));
    expect(await ask(failing, true)).toMatchObject({ message: "ENOTFOUND" });
    expect(await ask(answering(), true)).toMatchObject({ message: "hook.example has no address" });
  });
});
