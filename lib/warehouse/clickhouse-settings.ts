// Settings of every command that connects to ClickHouse.
import { z } from "zod";
import { httpUrl, identifier, type Setting, secret, settingInfo, text } from "#lib/config/settings.ts";
import { authorities, readAuthorities } from "#lib/config/tls-settings.ts";
import type { ClickHouseOptions } from "./clickhouse.ts";
import { ownerHeaders } from "./owner-key.ts";

/** ClickHouse's client would take the path for the name of the database, over CLICKHOUSE_DATABASE. */
const NO_PATH = { pathFault: "expected an address without a path; the database is named by CLICKHOUSE_DATABASE" };

/** Settings of every service that speaks to ClickHouse. */
export const clickhouseSettings = {
  clickhouseUrl: httpUrl("http://localhost:8123", NO_PATH).describe("Address of ClickHouse's HTTP interface."),
  clickhouseCa: authorities().describe(
    "PEM file with the authorities to trust for ClickHouse's certificate, for https.",
  ),
  clickhouseUser: text("default").describe("ClickHouse user."),
  clickhousePassword: secret("").describe("ClickHouse password."),
  clickhouseDatabase: identifier("millrace").describe("Database of all tables."),
  clickhouseCluster: text().describe("Name of the cluster in ClickHouse's configuration; unset: one server, or Cloud."),
  clickhouseShardUrls: shardUrls().describe(
    "The cluster's shards in their order, each with its replicas; unset: one shard, of CLICKHOUSE_URL alone.",
  ),
};

type AllSettings = z.output<z.ZodObject<typeof clickhouseSettings>>;
/** What the standalone's own ClickHouse has no use for. */
type OptionalSettings = Pick<AllSettings, "clickhouseCa" | "clickhouseCluster" | "clickhouseShardUrls">;
export type ClickHouseConfig = Omit<AllSettings, keyof OptionalSettings> &
  Partial<OptionalSettings> & {
    /** Of the standalone whose endpoint it may be. */
    dataDir?: string;
  };

/** Replicas of each shard, from "url1|url2,url3|url4" or a list of such shards. */
function shardUrls(): Setting<readonly (readonly string[])[]> {
  const info = {
    expected: "addresses that begin with http:// or https://: | between replicas, a comma between shards",
    placeholder: "url|url,url|url",
  };
  const address = httpUrl(undefined, NO_PATH);
  const schema = z.unknown().transform((raw, context) => {
    if (raw === undefined || raw === null) return [];
    const fault = (message: string) => {
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    };
    const shards: unknown = typeof raw === "string" ? raw.split(",") : raw;
    if (!Array.isArray(shards) || !shards.every((shard) => typeof shard === "string"))
      return fault(`expected ${info.expected}`);
    const read = shards.map((shard: string) => shard.split("|").map((url) => address.safeParse(url).data));
    if (read.flat().includes(undefined)) return fault(`expected ${info.expected}`);
    const urls = read as string[][];
    if (new Set(urls.flat()).size < urls.flat().length) return fault("has an address twice: a replica is of one shard");
    return urls;
  });
  return schema.register(settingInfo, info);
}

/** Options of createClickHouseWarehouse for these settings. Throws for shards of no cluster. */
export function clickhouseOptions(config: ClickHouseConfig): ClickHouseOptions {
  return {
    url: config.clickhouseUrl,
    ca: config.clickhouseCa === undefined ? undefined : readAuthorities(config.clickhouseCa),
    user: config.clickhouseUser,
    password: config.clickhousePassword,
    database: config.clickhouseDatabase,
    headers: config.dataDir === undefined ? {} : ownerHeaders(config.dataDir, config.clickhouseUrl),
    ...clusterOf(config),
  };
}

function clusterOf(config: ClickHouseConfig): Pick<ClickHouseOptions, "cluster"> {
  const { clickhouseCluster: name, clickhouseShardUrls: shards = [] } = config;
  if (name !== undefined) return { cluster: { name, shards: shards.length === 0 ? [[config.clickhouseUrl]] : shards } };
  // As one server it would get every row on one of the shards.
  if (shards.length > 0) throw new Error("CLICKHOUSE_SHARD_URLS is set: set CLICKHOUSE_CLUSTER, or take it away");
  return {};
}
