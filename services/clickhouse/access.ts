// What the engine itself is told to allow. chdb starts as ClickHouse's local tool does, with every right; a configuration
// with users takes them away, so that a query the guard misreads still meets an engine that may not open files or sockets.
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { DATABASE_ENGINES, TABLE_ENGINES } from "./allowed.ts";
import { reservedBytes } from "./lost-writes.ts";

/** Longest a query may run, whatever it asks for. */
export const MAX_EXECUTION_SECONDS = 600;
/** SQL text that is parsed, VALUES included; rows sent as bytes are not counted. */
const MAX_SQL_BYTES = 16 * 1024 * 1024;
/** A result is built in memory before it is sent. */
const MAX_RESULT_BYTES = 256 * 1024 * 1024;

const RIGHTS =
  "CHECK, SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE ARBITRARY TEMPORARY TABLE, " +
  "CREATE TEMPORARY VIEW, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, dictGet";

/** Settings that name files and other machines, switch to another language or hold SQL in a string. */
export const FIXED_SETTINGS: readonly string[] = [
  "dialect",
  "polyglot_dialect",
  "allow_experimental_eval_table_function",
  "additional_table_filters",
  "additional_result_filter",
  "parallel_replicas_custom_key",
  "format_schema",
  "format_schema_source",
  "format_template_resultset",
  "format_template_row",
  "output_format_schema",
  "input_format_record_errors_file_path",
  "format_avro_schema_registry_url",
  "url_base",
  "rename_files_after_processing",
  "max_query_size",
  "ai_function_embedding_default_credentials",
  "ai_function_text_default_credentials",
  "cluster_for_parallel_replicas",
  "default_view_definer",
  "distributed_cache_file_cache_name",
  "filesystem_cache_name",
  "output_format_avro_confluent_subject",
  "promql_database",
  "promql_table",
  "s3queue_default_zookeeper_path",
  "schema_inference_hints",
  "stream_like_engine_insert_queue",
];

/** Writes the configuration into `directory` and returns the arguments with which a session starts under it. */
export function writeAccessConfig(directory: string): string[] {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const users = join(directory, "users.xml");
  const config = join(directory, "config.xml");
  writeFileSync(users, usersXml());
  writeFileSync(
    config,
    `<clickhouse>
  <users_config>${escapeXml(users)}</users_config>
  <access_control_improvements><table_engines_require_grant>true</table_engines_require_grant></access_control_improvements>
  <remote_url_allow_hosts></remote_url_allow_hosts>
  <storage_configuration><disks><default>
    <keep_free_space_bytes>${reservedBytes(directory)}</keep_free_space_bytes>
  </default></disks></storage_configuration>
</clickhouse>
`,
  );
  return [`--config-file=${config}`, "--output_format_json_quote_64bit_integers=1"];
}

/**
 * The scalar function file() knows no grant, and the local tool's rule is that every path is allowed. It resolves the
 * working directory first, though, so in a process whose working directory is gone it fails before it opens anything.
 * This covers SQL that hides in strings: a column default in a table function's structure, an expression in VALUES data.
 *
 * The engine does not start without a working directory, so it starts in one that is empty; the function returned removes
 * that. What runs while the engine opens its tables was looked at before (boundary.ts, assertDefinitions).
 */
export function leaveFileSystem(directory: string): () => void {
  const empty = join(directory, "empty");
  rmSync(empty, { recursive: true, force: true });
  mkdirSync(empty, { mode: 0o700 });
  process.chdir(empty);
  return () => rmdirSync(empty);
}

function usersXml(): string {
  const memory = Math.floor(totalmem() / 2);
  const fixed = FIXED_SETTINGS.map((name) => `<${name}><readonly/></${name}>`).join("");
  const engines = new Set([...TABLE_ENGINES, ...DATABASE_ENGINES]);
  const grants = [`GRANT ${RIGHTS} ON *.*`, ...[...engines].map((engine) => `GRANT TABLE ENGINE ON ${engine}`)];
  return `<clickhouse>
  <profiles><default>
    <max_query_size>${MAX_SQL_BYTES}</max_query_size>
    <max_result_bytes>${MAX_RESULT_BYTES}</max_result_bytes>
    <max_memory_usage>${memory}</max_memory_usage>
    <constraints>
      <max_execution_time><min>1</min><max>${MAX_EXECUTION_SECONDS}</max></max_execution_time>
      <max_memory_usage><min>1</min><max>${memory}</max></max_memory_usage>
      <max_result_bytes><min>1</min><max>${MAX_RESULT_BYTES}</max></max_result_bytes>
      ${fixed}
    </constraints>
  </default></profiles>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants>${grants.map((grant) => `<query>${grant}</query>`).join("")}</grants>
  </default></users>
  <quotas><default></default></quotas>
</clickhouse>
`;
}

function escapeXml(text: string): string {
  return text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
}
