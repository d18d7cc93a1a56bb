import { expect, it } from "vitest";
import { clickhouseSettings } from "./clickhouse-settings.ts";

const { clickhouseShardUrls } = clickhouseSettings;

it.each([
  [undefined, []],
  ["http://a:8123", [["http://a:8123"]]],
  [
    "http://a|http://b/ , https://c|https://d",
    [
      ["http://a", "http://b"],
      ["https://c", "https://d"],
    ],
  ],
  [
    ["http://a|http://b", "http://c"],
    [["http://a", "http://b"], ["http://c"]],
  ],
])("shards %j are %j", (raw, shards) => {
  expect(clickhouseShardUrls.parse(raw)).toEqual(shards);
});

it.each(["a,b", "http://a,", "http://a||http://b", "http://u:p@a", "", 1, [["http://a"]]])(
  "%j names no shards",
  (raw) => {
    expect(clickhouseShardUrls.safeParse(raw).error?.issues[0]?.message).toContain("between replicas");
  },
);

it("an address is a replica of one shard", () => {
  expect(clickhouseShardUrls.safeParse("http://a,http://a/").error?.issues[0]?.message).toContain("twice");
});
