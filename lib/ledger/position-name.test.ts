import { describe, expect, it } from "vitest";
import { createPositionNames, PositionError } from "./position-name.ts";

const place = (epoch: string) => ({ epoch, topic: "millrace.events", partition: 3, offset: 0 });

describe("the name of a position", () => {
  it("has eight characters of the epoch and finds it again", () => {
    const names = createPositionNames(["12345678-aaaa", "87654321-bbbb"]);
    expect(names.nameOf(place("12345678-aaaa"))).toBe("12345678:millrace.events:3:0");
    expect(names.find("12345678:millrace.events:3:0")).toEqual(place("12345678-aaaa"));
  });

  it("has more of them where eight could mean two epochs", () => {
    const names = createPositionNames(["12345678-aa", "12345678-ab", "short"]);
    const name = names.nameOf(place("12345678-ab"));
    expect(name).toBe("12345678-ab:millrace.events:3:0");
    expect(names.find(name)).toEqual(place("12345678-ab"));
    expect(() => names.find("12345678:millrace.events:3:0")).toThrow(PositionError);
    expect(names.find("short:millrace.events:3:0")).toEqual(place("short"));
  });

  it("finds an epoch that another one begins with, and none that is not there", () => {
    const names = createPositionNames(["one", "one-more"]);
    expect(names.find("one:t:0:1")?.epoch).toBe("one");
    expect(names.find("two:t:0:1")).toBe(undefined);
  });

  it.each(["", "x", "a:b:c:d", "a:t:0:-1", "a:t:0", "a:t:0:12345678901234567890"])("is not %j", (name) => {
    expect(() => createPositionNames(["a"]).find(name)).toThrow(PositionError);
  });
});
