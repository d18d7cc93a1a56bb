// `millrace start` with a dead letter to begin with, an agent beside it, and the real Prometheus that reads its metrics.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { freePort } from "../../test/kit/free-port.ts";
import { type Spawned, spawnMillrace } from "../../test/kit/processes.ts";
import { type RunningStandalone, startStandalone } from "../../test/kit/standalone.ts";
import { until } from "../../test/kit/until.ts";

export const KEY = "load";
/** Of a caller who meets the limit. */
export const HASTY_KEY = "hasty";
/** Events a second and key. */
export const RATE_LIMIT = 1_000;
/** Seconds between scrapes; Grafana's $__rate_interval is then four. */
export const SCRAPE_SECONDS = 1;
const RULES = fileURLToPath(new URL("../../deploy/prometheus/rules/", import.meta.url));

export type Millrace = RunningStandalone;

/** Rejects with what it printed when it is not ready in time. Killed with -9 when disposed. */
export async function startMillrace(dataDir: string): Promise<Millrace> {
  await appendPoison(dataDir);
  const env = {
    ...{ POLL_INTERVAL: "2s", ALERT_INTERVAL: "1s", LOG_LEVEL: "error" },
    ...{ PUBLIC_API_KEYS: `${KEY},${HASTY_KEY}`, RATE_LIMIT_EVENTS: String(RATE_LIMIT) },
  };
  return startStandalone({ dataDir, env });
}

/** A record that no gateway wrote, on the log before anything runs: it becomes a dead letter. */
async function appendPoison(dataDir: string): Promise<void> {
  const log = await createSqliteLog({ file: join(dataDir, "log.sqlite") });
  try {
    await log.createTopics([{ topic: EVENTS_TOPIC, partitions: 1 }]);
    await log.append(EVENTS_TOPIC, [{ key: Buffer.from("poison"), value: Buffer.from([0x0a, 0xff, 1, 2, 3]) }]);
  } finally {
    await log[Symbol.asyncDispose]();
  }
}

export function startAgent(relayAddress: string): Spawned {
  const env = {
    MILLRACE_SERVER: relayAddress,
    MILLRACE_ID: "load",
    MILLRACE_INTERVAL: "1s",
    MILLRACE_LOG_LEVEL: "error",
  };
  return spawnMillrace(["agent"], env);
}

export interface Prometheus extends AsyncDisposable {
  readonly url: string;
}

/** Scrapes the process at `target`, with the alert rules of deploy/. Its data go below `directory`. */
export async function startPrometheus(target: string, directory: string): Promise<Prometheus> {
  const rules = join(directory, "rules");
  await mkdir(rules, { recursive: true });
  for (const name of await readdir(RULES)) await copyFile(join(RULES, name), join(rules, name));
  const config = join(directory, "prometheus.yml");
  const scrape = { job_name: "millrace", static_configs: [{ targets: [new URL(target).host] }] };
  const every = `${SCRAPE_SECONDS}s`;
  const settings = {
    global: { scrape_interval: every, scrape_timeout: every, evaluation_interval: every },
    rule_files: [join(rules, "*.yml")],
    scrape_configs: [scrape],
  };
  // JSON is YAML.
  await writeFile(config, JSON.stringify(settings));
  const port = await freePort();
  const args = [`--config.file=${config}`, `--storage.tsdb.path=${join(directory, "data")}`];
  const listen = [`--web.listen-address=127.0.0.1:${port}`, "--log.level=warn"];
  const child = spawn("prometheus", [...args, ...listen], { stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  const url = `http://127.0.0.1:${port}`;
  const running = {
    url,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await exited;
    },
  };
  try {
    // Until it listens there is no connection.
    await until(async () => (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok === true, "Prometheus is ready");
    return running;
  } catch (error) {
    await running[Symbol.asyncDispose]();
    throw error;
  }
}
