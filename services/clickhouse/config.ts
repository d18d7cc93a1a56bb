// Settings of the ClickHouse endpoint, alone or within the standalone.
import { z } from "zod";
import { oneOf, port, secret, text } from "#lib/config/settings.ts";
import { LOG_LEVELS } from "#lib/process/log.ts";

export const endpointSettings = {
  host: text("127.0.0.1").describe("Address to listen on; beyond loopback it requires keys and CLICKHOUSE_PASSWORD."),
  clickhouseHttpPort: port(8123).describe("Port of ClickHouse's HTTP interface."),
  clickhouseUser: text("default").describe("ClickHouse user."),
  clickhousePassword: secret("").describe("ClickHouse password; without one it listens on loopback only."),
  dataDir: text("./.millrace").describe("Directory of all data."),
  logLevel: oneOf(LOG_LEVELS, "info").describe("Minimum log level."),
};

export const endpointSchema = z.object(endpointSettings);
