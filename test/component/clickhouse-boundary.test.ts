// Nothing that reaches files, other machines or programs can be made through the endpoint: each name the engine has is
// judged, what is not allowed is refused, and each layer holds without the others.
import { mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Session } from "chdb";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FIXED_SETTINGS, leaveFileSystem, writeAccessConfig } from "../../services/clickhouse/access.ts";
import { DATABASE_ENGINES, TABLE_ENGINES, TABLE_FUNCTIONS } from "../../services/clickhouse/allowed.ts";
import { startClickHouse } from "../../services/clickhouse/app.ts";
import { createBoundary } from "../../services/clickhouse/boundary.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";

let clickhouse: TestClickHouse;

beforeAll(async () => {
  process.env.MILLRACE_TEST_SECRET = "not for the engine";
  clickhouse = await startTestClickHouse();
});

afterAll(() => clickhouse[Symbol.asyncDispose]());

async function sql(body: string): Promise<string> {
  return (await fetch(clickhouse.url, { method: "POST", body })).text();
}

const lines = async (query: string) => (await sql(query)).trim().split("\n");

/** Judged and refused: they reach files, other machines or programs, run SQL that is data, or are of no use here. */
const REFUSED = {
  table_engines: `Alias ArrowStream AzureBlobStorage AzureQueue COSN DeltaLake DeltaLakeAzure DeltaLakeLocal DeltaLakeS3
    Dictionary Distributed EmbeddedRocksDB Executable ExecutablePool File FileLog FuzzJSON FuzzQuery GCS HDFS Hudi Iceberg
    IcebergAzure IcebergHDFS IcebergLocal IcebergS3 JDBC Kafka KeeperMap Loop MaterializedPostgreSQL MongoDB MySQL ODBC OSS
    Paimon PaimonAzure PaimonHDFS PaimonLocal PaimonS3 PostgreSQL QueryRunner Redis Remote RemoteSecure
    ReplicatedAggregatingMergeTree ReplicatedCoalescingMergeTree ReplicatedCollapsingMergeTree
    ReplicatedGraphiteMergeTree ReplicatedMergeTree ReplicatedReplacingMergeTree ReplicatedSummingMergeTree
    ReplicatedVersionedCollapsingMergeTree S3 S3Queue SQLite TimeSeries URL WindowView YTsaurus`,
  database_engines: `Backup DataLakeCatalog Dictionary Filesystem HDFS MaterializedPostgreSQL MySQL Ordinary PostgreSQL
    Replicated S3 SQLite`,
  table_functions: `arrowstream azureBlobStorage azureBlobStorageCluster cluster clusterAllReplicas cosn deltaLake
    deltaLakeAzure deltaLakeAzureCluster deltaLakeCluster deltaLakeLocal deltaLakeS3 deltaLakeS3Cluster dictionary eval
    executable file fileCluster filesystem fuzzJSON fuzzQuery gcs hdfs hdfsCluster hudi hudiCluster iceberg icebergAzure
    icebergAzureCluster icebergCluster icebergHDFS icebergHDFSCluster icebergLocal icebergLocalCluster icebergS3
    icebergS3Cluster input jdbc loop mergeTreeAnalyzeIndexesUUID mongodb mysql odbc oss paimon paimonAzure
    paimonAzureCluster paimonCluster paimonHDFS paimonHDFSCluster paimonLocal paimonS3 paimonS3Cluster postgresql
    prometheusQuery prometheusQueryRange redis remote remoteSecure s3 s3Cluster sqlite timeSeriesData timeSeriesMetrics
    timeSeriesSamples timeSeriesSelector timeSeriesTags url urlCluster ytsaurus`,
  disk_types: `azure_blob_storage cache encrypted hdfs local local_blob_storage object_storage s3 s3_plain
    s3_plain_rewritable s3_with_keeper web`,
  dictionary_sources: `cassandra clickhouse executable executable_pool file http jdbc library mongodb mysql null odbc
    postgresql redis yamlregexptree ytsaurus`,
};
/** Settings that hold text and stay free: none names a file or a machine, and none is SQL. */
const FREE_TEXT_SETTINGS = new Set(
  `bool_false_representation bool_true_representation chdb_client_name column_names_for_schema_inference compatibility
  count_distinct_implementation distributed_plan_force_exchange_kind errors_output_format
  exclude_materialize_skip_indexes_on_insert force_data_skipping_indices force_optimize_projection_name
  format_csv_null_representation format_custom_field_delimiter format_custom_result_after_delimiter
  format_custom_result_before_delimiter format_custom_row_after_delimiter format_custom_row_before_delimiter
  format_custom_row_between_delimiter format_json_object_each_row_column_for_object_name format_regexp
  format_schema_message_name format_template_resultset_format format_template_row_format
  format_template_rows_between_delimiter format_tsv_null_representation function_implementation http_response_headers
  iceberg_metadata_compression_method ignore_data_skipping_indices implicit_table_at_top_level
  input_format_mysql_dump_table_name input_format_orc_reader_time_zone_name insert_deduplication_token
  local_filesystem_read_method log_comment metrics_perf_events_list network_compression_method output_format_avro_codec
  output_format_avro_string_column_pattern output_format_image_terminal_mode output_format_orc_writer_time_zone_name
  output_format_pretty_grid_charset output_format_sql_insert_table_name preferred_optimize_projection_name
  query_cache_tag remote_filesystem_read_method send_logs_source_regexp temporary_files_codec trace_profile_events_list
  workload`.split(/\s+/),
);

type Kind = keyof typeof REFUSED;
const refusedOf = (kind: Kind) => REFUSED[kind].split(/\s+/);
const ALLOWED: Partial<Record<Kind, readonly string[]>> = {
  table_engines: TABLE_ENGINES,
  database_engines: DATABASE_ENGINES,
  table_functions: TABLE_FUNCTIONS,
};

/** Every name that is refused, in each place where it could do something. */
function attempts(): string[] {
  return [
    ...refusedOf("table_engines").flatMap((name) =>
      ["=", ""].map((sign) => `CREATE TABLE refused (query String) ENGINE ${sign} ${name}`),
    ),
    ...refusedOf("database_engines").flatMap((name) =>
      ["=", ""].map((sign) => `CREATE DATABASE refused ENGINE ${sign} ${name}`),
    ),
    ...refusedOf("table_functions").map((name) => `SELECT * FROM ${name}('http://127.0.0.1:1/')`),
    ...refusedOf("table_functions").map((name) => `SELECT * FROM numbers(1), ${name.toUpperCase()}('/etc/passwd')`),
    ...refusedOf("disk_types").flatMap((name) =>
      ["=", ""].map(
        (sign) =>
          `CREATE TABLE refused (a Int8) ENGINE ${sign} MergeTree ORDER BY a SETTINGS disk = disk(type = ${name})`,
      ),
    ),
    ...refusedOf("dictionary_sources").map(
      (name) => `CREATE DICTIONARY refused (a UInt64) PRIMARY KEY a SOURCE(${name}()) LAYOUT(FLAT()) LIFETIME(1)`,
    ),
  ];
}

describe("names the engine has", () => {
  it.each(Object.keys(REFUSED) as Kind[])("%s are all judged", async (kind) => {
    const judged = new Set([...refusedOf(kind), ...(ALLOWED[kind] ?? [])]);
    const unjudged = (await lines(`SELECT name FROM system.${kind}`)).filter((name) => !judged.has(name));
    expect(unjudged, "judge these: allow them in services/clickhouse/allowed.ts, or list them here as refused").toEqual(
      [],
    );
  });

  it("settings that hold text are all judged, and those that are not free cannot be set", async () => {
    const names = await lines("SELECT name FROM system.settings WHERE type IN ('String', 'Map', 'URI', 'Dialect')");
    const unjudged = names.filter((name) => !FREE_TEXT_SETTINGS.has(name) && !FIXED_SETTINGS.includes(name));
    expect(unjudged, "judge these: fix them in access.ts, or list them here as free").toEqual([]);
    for (const name of names.filter((it) => FIXED_SETTINGS.includes(it))) {
      const value = name === "additional_table_filters" ? "{'a':'b'}" : name === "dialect" ? "'prql'" : "'x'";
      expect(await sql(`SELECT 1 SETTINGS ${name} = ${value}`), name).toMatch(/^Code: (452|164|497|473)\. /);
    }
  });

  it("are refused unless they are allowed", async () => {
    const statements = attempts();
    const answers: [statement: string, answer: string][] = [];
    for (const statement of statements) answers.push([statement, await sql(statement)]);
    const taken = answers.filter(([, answer]) => !/^Code: 497\. .*This endpoint refuses/.test(answer));
    expect(taken).toEqual([]);
    expect(await sql("EXISTS TABLE refused")).toBe("0\n");
    expect(clickhouse.endpoint.restarts).toBe(0);
  });
});

describe("what is inside", () => {
  it.each([
    "CREATE TABLE inside.t (a Int8, engine String) ENGINE MergeTree ORDER BY a",
    "CREATE TABLE inside.r (a Int8) ENGINE = ReplacingMergeTree ORDER BY a SETTINGS index_granularity = 1024",
    "CREATE TABLE inside.d (a Int8) ORDER BY a",
    "CREATE TABLE inside.c AS inside.t ENGINE = Null",
    "CREATE TABLE inside.m ENGINE Memory AS SELECT engine FROM system.tables WHERE engine = 'QueryRunner'",
    "CREATE TABLE inside.b AS inside.t ENGINE = Buffer(inside, t, 1, 10, 100, 10, 100, 1000, 10000)",
    "CREATE TABLE inside.g AS inside.t ENGINE = Merge(inside, '^t')",
    "CREATE VIEW inside.v AS SELECT a, engine FROM inside.t ORDER BY engine",
    "CREATE MATERIALIZED VIEW inside.mv ENGINE = SummingMergeTree ORDER BY a AS SELECT a FROM inside.t",
    "CREATE MATERIALIZED VIEW inside.to TO inside.r AS SELECT a FROM inside.t",
    "CREATE MATERIALIZED VIEW inside.rmv REFRESH EVERY 1 HOUR APPEND TO inside.r AS SELECT a FROM inside.t",
    "CREATE OR REPLACE TABLE inside.l (a Int8) ENGINE = StripeLog",
    "CREATE DATABASE inside2 ENGINE = Memory",
    "DETACH TABLE inside.l",
    "ATTACH TABLE inside.l",
    "SELECT count() FROM merge('inside', '^t$') AS m, numbers(1) AS n, values('x Int8', 1) AS v",
  ])("can be made: %s", async (statement) => {
    await sql("CREATE DATABASE IF NOT EXISTS inside");
    expect(await sql(statement)).not.toContain("Code:");
  });
});

it.each([
  "EXISTS TABLE `PATH`",
  "EXISTS VIEW `PATH`",
  "EXISTS `PATH`",
  "EXISTS TABLE default.`PATH`",
  "SELECT * FROM `PATH`",
  "SELECT * FROM 'PATH'",
  "DESCRIBE TABLE `PATH`",
  "SHOW CREATE TABLE `PATH`",
  "SHOW COLUMNS FROM `PATH`",
  "CHECK TABLE `PATH`",
  "INSERT INTO `PATH` VALUES (1)",
  "CREATE TABLE copy AS `PATH`",
  "SELECT hasColumnInTable('default', 'PATH', 'c')",
  "SELECT joinGet('PATH', 'a', 1)",
  "SELECT 1 IN `PATH`",
  "SELECT * FROM merge('default', 'PATH')",
  "SELECT count() FROM system.tables WHERE database = 'default' AND name = 'PATH'",
  "DROP TABLE IF EXISTS `PATH`",
  "RENAME TABLE `PATH` TO moved",
])("%s does not tell whether a file exists", async (statement) => {
  const [there, missing] = await Promise.all(
    ["/etc/passwd", "/etc/nosuch"].map(async (path) =>
      (await sql(statement.replace("PATH", path))).replaceAll(path, "PATH"),
    ),
  );
  expect(there).toBe(missing);
});

describe("with the guard off", () => {
  let directory: string;
  let session: Session;
  const home = process.cwd();

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "millrace-boundary-"));
    const chdb: typeof import("chdb") = createRequire(import.meta.url)("chdb");
    const removeWorkingDirectory = leaveFileSystem(directory);
    const connectionArgs = writeAccessConfig(join(directory, "access"));
    session = new chdb.Session(join(directory, "data"), { connectionArgs });
    removeWorkingDirectory();
  });

  afterAll(async () => {
    session.close();
    process.chdir(home);
    await rm(directory, { recursive: true, force: true });
  });

  const statements: [string, string][] = [
    ["QueryRunner", "CREATE TABLE made (query String) ENGINE QueryRunner"],
    ["Alias", "CREATE TABLE made ENGINE Alias(system, one)"],
    ["Executable", "CREATE TABLE made (a String) ENGINE = Executable('x.sh', TSV)"],
    ["ExecutablePool", "CREATE TABLE made (a String) ENGINE = ExecutablePool('x.sh', TSV)"],
    ["EmbeddedRocksDB", "CREATE TABLE made (k String) ENGINE = EmbeddedRocksDB PRIMARY KEY k"],
    ["FuzzJSON", "CREATE TABLE made (json String) ENGINE = FuzzJSON('{}')"],
    ["TimeSeries", "CREATE TABLE made ENGINE = TimeSeries SETTINGS allow_experimental_time_series_table = 1"],
    ["Filesystem", "CREATE DATABASE made ENGINE = Filesystem"],
    ["S3", "CREATE DATABASE made ENGINE = S3('http://127.0.0.1:1/b', 'NOSIGN')"],
    ...["local_blob_storage, path = 'blobs/'", "object_storage, object_storage_type = local, path = 'blobs/'"].map(
      (disk): [string, string] => [
        `a disk of type ${disk}`,
        `CREATE TABLE made (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = ${disk})`,
      ],
    ),
  ];

  it("nothing that the guard refuses by name is made, read or kept", async () => {
    const boundary = await createBoundary((text) => session.queryAsync(text, { format: "JSON" }));
    const passed: string[] = [];
    for (const sql of attempts()) {
      const ran = await session.queryAsync(sql).then(
        (result) => result.text() !== "",
        () => false,
      );
      const keyword = sql.split(" ", 1)[0] ?? "";
      const rest = { sql, keyword, tokens: [], rows: new Uint8Array(), format: undefined };
      // What was made all the same is dropped by the second look.
      await boundary.assertStorages(rest).catch((error: Error) => expect(error.message).toContain("was dropped"));
      if (ran) passed.push(sql);
    }
    expect(attempts().length).toBeGreaterThan(60);
    expect(passed).toEqual([]);
    const left = await session.queryAsync(
      "SELECT name FROM system.tables WHERE name = 'refused' UNION ALL SELECT name FROM system.databases WHERE name = 'refused'",
      { format: "TSV" },
    );
    expect(left.text()).toBe("");
  });

  it.each(statements)("%s does not stay", async (_, statement) => {
    const boundary = await createBoundary((text) => session.queryAsync(text, { format: "JSON" }));
    const made = await session.queryAsync(statement).then(
      () => true,
      () => false,
    );
    const keyword = statement.split(" ", 1)[0] ?? "";
    const check = boundary.assertStorages({
      sql: statement,
      keyword,
      tokens: [],
      rows: new Uint8Array(),
      format: undefined,
    });
    if (made) await expect(check).rejects.toThrow(/Code: 497\. .*made was dropped/);
    else await check;
    const exists = await session.queryAsync(
      "SELECT name FROM system.tables WHERE name = 'made' UNION ALL SELECT name FROM system.databases WHERE name = 'made'",
      { format: "TSV" },
    );
    expect(exists.text()).toBe("");
  });
});

describe("the process", () => {
  it.skipIf(process.platform !== "linux")("has no variable of ours and no working directory", async () => {
    const environment = await readFile(`/proc/${clickhouse.endpoint.pid}/environ`, "utf8");
    expect(environment).toContain("UV_THREADPOOL_SIZE=");
    expect(environment).not.toContain("MILLRACE_TEST_SECRET");
    expect(await readlink(`/proc/${clickhouse.endpoint.pid}/cwd`)).toMatch(/\(deleted\)$/);
  });

  it("does not open a directory in which a definition calls what is refused", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "millrace-stored-"));
    const options = { host: "127.0.0.1", port: 0, dataDir, user: "default", password: "" };
    {
      await using endpoint = await startClickHouse(options);
      for (const body of [
        "CREATE TABLE names (a String) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE out (a String) ENGINE = MergeTree ORDER BY a",
        "CREATE MATERIALIZED VIEW view REFRESH EVERY 1 HOUR APPEND TO out AS SELECT lower(a) AS a FROM names",
      ]) {
        expect(await (await fetch(endpoint.url, { method: "POST", body })).text()).toBe("");
      }
    }
    const store = join(dataDir, "clickhouse", "data", "store");
    const file = (await readdir(store, { recursive: true })).find((name) => name.endsWith("/view.sql"));
    const path = join(store, file ?? "");
    await writeFile(path, (await readFile(path, "utf8")).replace("lower(a)", "file(a)"));
    await expect(startClickHouse(options)).rejects.toThrow(/view\.sql .*the function file.* Move the file away/);
    await rm(dataDir, { recursive: true, force: true });
  });
});
