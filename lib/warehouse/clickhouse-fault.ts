// What a command tells a person when ClickHouse cannot do what it was asked.
import type { ClickHouseConfig } from "./clickhouse-settings.ts";
import type { WarehouseError } from "./warehouse.ts";

/** Why a command that knows one server only does not touch a cluster; undefined when it may go on. */
export function clusterRefusal({ clickhouseCluster }: ClickHouseConfig, what: string): string | undefined {
  if (clickhouseCluster === undefined) return undefined;
  return `CLICKHOUSE_CLUSTER is set, and ${what} is not made for clusters yet (docs/deploy/clickhouse-cluster.md); nothing was done`;
}

/** Where ClickHouse was looked for, what it said, and what to do; `more` is added to what to do. */
export function clickhouseFault(
  error: WarehouseError,
  { clickhouseUrl, clickhouseDatabase }: Pick<ClickHouseConfig, "clickhouseUrl" | "clickhouseDatabase">,
  more?: string,
): string {
  const { cause } = error;
  const reason = cause instanceof Error ? `: ${cause.message.trim().split("\n")[0]}` : "";
  const remedies = [
    "name it with CLICKHOUSE_URL and CLICKHOUSE_DATABASE",
    "millrace migrate makes missing tables",
    ...(more === undefined ? [] : [more]),
  ];
  return `ClickHouse at ${clickhouseUrl}, database ${clickhouseDatabase}: ${error.message}${reason} (${remedies.join("; ")})`;
}
