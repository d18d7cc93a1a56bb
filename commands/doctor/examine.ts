// All checks and what each needs. They run side by side; a part that is away is named once, and what needs it is skipped.

import { ALERTS_TOPIC, EVENTS_TOPIC, POINTS_TOPIC } from "#lib/events/topics.ts";
import { STORED_TOPICS } from "#lib/ledger/stored-topics.ts";
import { findOnLog, findRow, sendCanary } from "./canary.ts";
import { judgeClock } from "./clocks.ts";
import { type DoctorConfig, isStandalone } from "./config.ts";
import { type ClickHouse, examineClickHouse } from "./examine-clickhouse.ts";
import { checkKey, checkReady, type Service } from "./http.ts";
import { checkDataDir, checkLog, type OpenLog } from "./log.ts";
import { checkConsuming, checkSameLog } from "./position.ts";
import { createExamination, type Examination, type Finding, type Probe, type Result } from "./probe.ts";
import { judgeRetention } from "./retention.ts";
import { judgeTopic, judgeWriteCaching } from "./topics.ts";

/** Half of the accuracy of a header in whole seconds. */
const DATE_HEADER_UNCERTAIN_MS = 1_000;

/** Connections belong to `owner`; they may be closed when all probes have results. */
export function examine(config: DoctorConfig, owner: AsyncDisposableStack): Examination {
  const examination = createExamination(config.doctorTimeout);
  const { probe } = examination;
  probe("settings", {}, async () => settingsFinding(config));
  const gateway = examineServices(examination, config);
  const log = probe("log", {}, () => checkLog(config, owner), {
    what: `no answer within ${config.doctorTimeout / 1000} s`,
    fix: "see whether the brokers hang, and whether KAFKA_SSL and KAFKA_SASL_MECHANISM are what they expect",
  });
  const clickhouse = examineClickHouse(examination, config, owner);
  examineTopics(examination, config, log, clickhouse);
  if (!config.noCanary) examineCanary(examination, config, { gateway, log, clickhouse });
  return examination;
}

function settingsFinding(config: DoctorConfig): Finding {
  const log = isStandalone(config)
    ? `the standalone in ${config.dataDir}`
    : `Kafka at ${config.kafkaBrokers.join(", ")}`;
  let what = `gateway ${config.millraceUrl}, log of ${log}, ClickHouse ${config.clickhouseUrl}, database ${config.clickhouseDatabase}`;
  if (config.clickhouseCluster !== undefined) what += `, cluster ${config.clickhouseCluster}`;
  return { status: "ok", what };
}

function examineServices({ probe }: Examination, config: DoctorConfig): Probe<Service> {
  const start = (command: string) => (isStandalone(config) ? "`millrace start`" : `\`millrace ${command}\``);
  const gateway = probe("gateway", {}, (_, signal) => {
    const names = { what: "the gateway", url: config.millraceUrl, setting: "MILLRACE_URL", start: start("gateway") };
    return checkReady(names, signal);
  });
  probe("gateway key", { gateway }, (_, signal) => checkKey(config.millraceUrl, config.millraceApiKey, signal));
  probe("gateway clock", { gateway }, async ({ gateway: { clockSkewMs } }) =>
    clockSkewMs === undefined
      ? { status: "skip", what: "it sends no Date header" }
      : judgeClock("the gateway", clockSkewMs, DATE_HEADER_UNCERTAIN_MS),
  );
  probe("stats", {}, async (_, signal): Promise<Result<Service>> => {
    const url = config.statsUrl ?? (isStandalone(config) ? "http://127.0.0.1:8081" : undefined);
    if (url === undefined) return { status: "skip", what: "not checked: STATS_URL is not set" };
    return checkReady({ what: "stats", url, setting: "STATS_URL", start: start("stats") }, signal);
  });
  return gateway;
}

function examineTopics(
  { probe }: Examination,
  config: DoctorConfig,
  log: Probe<OpenLog>,
  { tables, warehouse }: ClickHouse,
): void {
  const settings = isStandalone(config) ? undefined : examineSettings(probe, log);
  if (!settings) probe("data directory", { log }, () => checkDataDir(config));
  for (const kind of STORED_TOPICS) {
    const lag = probe(`consumer of ${kind.topic}`, { log }, async ({ log: { log, kafka } }) =>
      checkConsuming(log, kind, await kafka?.inspection.group(kind.group, kind.topic)),
    );
    if (settings) {
      probe(`retention of ${kind.topic}`, { lag, settings }, async ({ lag, settings: { topics } }) =>
        judgeRetention(lag, topics.find(({ topic }) => topic === kind.topic)?.settings, Date.now()),
      );
    } else probe(`retention of ${kind.topic}`, { lag }, async ({ lag }) => judgeRetention(lag, undefined, Date.now()));
    probe(`log of ${kind.topic}`, { log, tables }, ({ log: { log } }, signal) =>
      checkSameLog(log, warehouse, kind, signal),
    );
  }
}

function examineSettings(probe: Examination["probe"], log: Probe<OpenLog>) {
  const names = [EVENTS_TOPIC, POINTS_TOPIC, ALERTS_TOPIC];
  const described = probe("topics", { log }, async ({ log: { kafka } }) => {
    const topics = (await kafka?.inspection.topics(names)) ?? [];
    const what = `${topics.length} of ${names.length} exist`;
    return { status: "ok", what, value: { topics, brokers: kafka?.brokers ?? 0 } };
  });
  for (const name of names) {
    probe(`topic ${name}`, { described }, async ({ described: { topics, brokers } }) =>
      judgeTopic(
        topics.find(({ topic }) => topic === name),
        brokers,
      ),
    );
  }
  probe("write caching", { described }, async ({ described: { topics } }) => judgeWriteCaching(topics));
  return described;
}

interface Hops {
  gateway: Probe<Service>;
  log: Probe<OpenLog>;
  clickhouse: ClickHouse;
}

function examineCanary({ probe }: Examination, config: DoctorConfig, { gateway, log, clickhouse }: Hops): void {
  const seconds = config.doctorTimeout / 1000;
  const sent = probe("canary sent", { gateway }, async ({ gateway: { url } }, signal) => {
    const target = { url, apiKey: config.millraceApiKey, log: (await log.result).value?.log };
    return sendCanary(target, signal);
  });
  const logged = probe(
    "canary on the log",
    { sent, log },
    ({ sent, log: { log } }, signal) => findOnLog(log, sent, config.kafkaPartitions, signal),
    {
      what: `the gateway took it and it is not on the log after ${seconds} s`,
      fix: "see whether the gateway writes to this log: compare its KAFKA_BROKERS and KAFKA_PARTITIONS, or DATA_DIR",
    },
  );
  probe("log clock", { logged }, async ({ logged: { clockSkewMs, uncertainMs } }) =>
    judgeClock("the log", clockSkewMs, uncertainMs),
  );
  const { tables, warehouse } = clickhouse;
  const place = logged.result.then(({ value }) => value);
  probe("canary stored", { sent, tables }, ({ sent }, signal) => findRow(warehouse, sent, place, signal), {
    what: `no row in ClickHouse after ${seconds} s`,
    fix: "see the checks of the consumer and of the log's position; then the consumer's log and /readyz",
  });
}
