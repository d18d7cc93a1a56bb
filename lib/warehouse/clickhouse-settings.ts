import type { z } from "zod";
import { httpUrl, identifier, secret, text } from "#lib/runtime/settings.ts";
import type { ClickHouseOptions } from "./clickhouse.ts";

/** Settings of every service that speaks to ClickHouse. */
export const clickhouseSettings = {
  clickhouseUrl: httpUrl("http://localhost:8123").describe("Address of ClickHouse's HTTP interface."),
  clickhouseUser: text("default").describe("ClickHouse user."),
  clickhousePassword: secret("").describe("ClickHouse password."),
  clickhouseDatabase: identifier("millrace").describe("Database of all tables."),
};

export type ClickHouseConfig = z.output<z.ZodObject<typeof clickhouseSettings>>;

/** Options of createClickHouseWarehouse for these settings. */
export function clickhouseOptions(config: ClickHouseConfig): ClickHouseOptions {
  return {
    url: config.clickhouseUrl,
    user: config.clickhouseUser,
    password: config.clickhousePassword,
    database: config.clickhouseDatabase,
  };
}
