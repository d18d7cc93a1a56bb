import { describe, expect, it } from "vitest";
import { networkOf } from "#lib/http/addresses.ts";
import { createTrustedProxies, proxyFault, storedAddress } from "./trusted-proxies.ts";

const PROXIES = createTrustedProxies(["loopback", "10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48"]);

describe("the caller's address", () => {
  it.each([
    ["a caller that is no proxy, whatever it claims", "203.0.113.9", "198.51.100.1", "203.0.113.9"],
    ["a proxy without the header", "10.1.2.3", undefined, "10.1.2.3"],
    ["the last entry before a proxy", "10.1.2.3", "198.51.100.1, 203.0.113.9", "203.0.113.9"],
    ["through several proxies", "127.0.0.1", "203.0.113.9, 192.0.2.7,10.0.0.1", "203.0.113.9"],
    ["the first of a chain of proxies only", "127.0.0.1", "10.0.0.2, 10.0.0.1", "10.0.0.2"],
    ["garbage, which is not stored", "127.0.0.1", "<script>", "127.0.0.1"],
    ["garbage behind an address, which is not looked for", "127.0.0.1", "203.0.113.9, unknown", "127.0.0.1"],
    ["garbage behind a proxy", "127.0.0.1", "unknown, 10.0.0.1", "10.0.0.1"],
    ["an empty header", "127.0.0.1", "", "127.0.0.1"],
    ["with a port", "127.0.0.1", "203.0.113.9:4711", "203.0.113.9"],
    ["IPv6", "::1", "2001:db8:2::5", "2001:db8:2::5"],
    ["IPv6 with a port", "2001:db8:1::1", "[2001:db8:2::5]:4711", "2001:db8:2::5"],
    ["IPv4 on a dual-stack socket", "::ffff:10.1.2.3", "::ffff:203.0.113.9", "203.0.113.9"],
    ["with an interface name", "fe80::1%eth0", undefined, "fe80::1"],
    ["a connection that is gone", "", "203.0.113.9", ""],
  ])("%s", (_case, socket, header, expected) => {
    expect(PROXIES.clientOf(socket, header)).toBe(expected);
  });

  it("is that of the connection where no proxy is trusted", () => {
    expect(createTrustedProxies([]).clientOf("::ffff:127.0.0.1", "203.0.113.9")).toBe("127.0.0.1");
  });
});

it.each(["loopback", "Loopback", "10.0.0.0/8", "192.0.2.7", "::1", "2001:db8::/32", "0.0.0.0/0"])(
  "%s can be a trusted proxy",
  (entry) => {
    expect(proxyFault(entry)).toBeUndefined();
  },
);

it.each(["proxy.example", "10.0.0", "10.0.0.0/33", "::1/129", "10.0.0.0/", "10.0.0.0/8/8", "10.0.0.0/-1", "*", "/8"])(
  "%s cannot",
  (entry) => {
    expect(proxyFault(entry)).toContain("is not an address");
  },
);

describe("what is stored of an address", () => {
  it.each([
    ["203.0.113.9", "203.0.113.0"],
    ["10.0.0.255", "10.0.0.0"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1::"],
    ["2001:DB8::6", "2001:db8::"],
    ["2001:0db8:0001:2::", "2001:db8:1::"],
    ["fe80::1", "fe80::"],
    ["::1", "::"],
    ["64:ff9b::203.0.113.9", "64:ff9b::"],
    ["", ""],
  ])("of %s, truncated, is %s", (address, expected) => {
    expect(storedAddress(address, "truncate")).toBe(expected);
  });

  it("is all of it or nothing", () => {
    expect(storedAddress("203.0.113.9", "full")).toBe("203.0.113.9");
    expect(storedAddress("203.0.113.9", "off")).toBe("");
  });
});

it("the network of an abbreviated address is that of the whole one", () => {
  expect(networkOf("2001:db8::7:8", 4)).toBe("2001:db8::");
  expect(networkOf("1:2:3:4:5::", 4)).toBe("1:2:3:4::");
  expect(networkOf("1::5:6:7:8", 4)).toBe("1::");
});
