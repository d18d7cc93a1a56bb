// `millrace status`, GET /v1/status and StatusService: how it is, in words that are right, while parts are away and after.
import { setTimeout as pause } from "node:timers/promises";
import { toJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type GetStatusResponse, GetStatusResponseSchema, StatusService } from "#gen/millrace/stats/v1/status_pb.ts";
import { LogUnavailableError, type OpenLog } from "#lib/eventlog/log.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { callCommand, mainOf } from "../kit/command.ts";
import { eventRecord, poisonRecord } from "../kit/consumer.ts";
import { type DeadLetterStage, startDeadLetterStage } from "../kit/dead-letters.ts";
import { type EventViewsStage, startEventViews } from "../kit/event-views.ts";
import { patience } from "../kit/patience.ts";

let clickhouse: TestClickHouse;
let stage: DeadLetterStage;
let views: EventViewsStage;
const away = { clickhouse: false, log: false };
/** What ClickHouse is to say of its disks and policies: tables in the place of its own. */
const SYSTEM_TABLES = /system\.(disks|storage_policies)/g;
let hasOtherDisks = false;

/** The stage's parts, which a test can take away from the stats service alone. */
function breakable(): { log: OpenLog; warehouse: Warehouse } {
  const { log, warehouse } = stage;
  const logAway = async () => {
    if (away.log) throw new LogUnavailableError("no broker answers");
  };
  return {
    log: {
      ...log,
      check: () => logAway().then(() => log.check()),
      bounds: (topic) => logAway().then(() => log.bounds(topic)),
      committed: (topic, group) => logAway().then(() => log.committed(topic, group)),
    },
    warehouse: {
      ...warehouse,
      async query(sql, options) {
        if (away.clickhouse) throw new WarehouseError("ClickHouse does not answer", "transient");
        return warehouse.query(hasOtherDisks ? sql.replace(SYSTEM_TABLES, "other_$1") : sql, options);
      },
    },
  };
}

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  stage = await startDeadLetterStage(clickhouse, "status_states");
  views = await startEventViews(breakable(), { refusalsFrom: [stage.gatewayUrl] });
});
afterAll(async () => {
  await views?.[Symbol.asyncDispose]();
  await stage?.[Symbol.asyncDispose]();
  await clickhouse?.[Symbol.asyncDispose]();
});

const status = () => views.client(StatusService).getStatus({});

/** Asks until the status is so. */
async function statusThat(isSo: (status: GetStatusResponse) => boolean): Promise<GetStatusResponse> {
  const deadline = performance.now() + patience(20_000);
  for (;;) {
    const found = await status();
    if (isSo(found)) return found;
    if (performance.now() > deadline)
      throw new Error(`still ${JSON.stringify(toJson(GetStatusResponseSchema, found))}`);
    await pause(250);
  }
}

const has = (name: string) => (found: GetStatusResponse) => found.problems.some((problem) => problem.name === name);
const hasNone = (found: GetStatusResponse) => found.problems.length === 0;

describe("a status", () => {
  it("says that all is well while nothing is wrong, with versions and disks", async () => {
    const found = await statusThat(hasNone);
    expect(found.versions.map(({ part }) => part)).toEqual(["millrace", "clickhouse", "log", "schema"]);
    expect(found.disks[0]?.totalBytes).toBeGreaterThan(0n);
    const { out, code } = await views.run("status");
    expect([code, out]).toEqual([0, expect.stringMatching(/^All is well\.\n\nevents {8}/)]);
  });

  it("says that the consumer stands still, since when and how much waits, until it goes on", async () => {
    await stage.append(eventRecord(), eventRecord(), eventRecord());
    const found = await statusThat(has("consumer_stopped"));
    const [problem] = found.problems;
    expect(problem?.text).toMatch(
      /^No rows: the consumer has not moved since .*Z\. 3 events wait on the log, none is lost\.$/,
    );
    expect(found.topics[0]).toMatchObject({ topic: EVENTS_TOPIC, waiting: 3n });
    const { out, code } = await views.run("status");
    expect([code, out.split("\n")[0]]).toEqual([3, `! ${problem?.text}`]);
    expect(await views.registry.metrics()).toMatch(
      /^millrace_oldest_waiting_seconds\{topic="millrace.events"\} [1-9]/m,
    );

    stage.startConsumer();
    await stage.drained();
    const after = await statusThat(hasNone);
    expect(after.topics[0]).toMatchObject({ waiting: 0n });
    expect(after.topics[0]?.newestRow).toBeDefined();
    expect(after.topics[0]?.oldestWaiting).toBeUndefined();
    // The stage's consumer may wait 10 ms at most, whatever it measures.
    expect(after.topics[0]?.batchWait).toMatchObject({ seconds: 0n, nanos: 10_000_000 });
    expect((await views.run("status")).out).toMatch(
      /^batches {7}events wait 10 ms for more, (ClickHouse is idle|so that about one insert)/m,
    );
  });

  it("says so too while a disk is full that none of the tables is on, and names the one on which there is no room", async () => {
    const { warehouse } = stage;
    const define = (disks: string, policies: string) =>
      Promise.all([
        warehouse.command(`CREATE OR REPLACE VIEW other_disks AS
          SELECT c1 AS name, toUInt64(c2) AS free_space, toUInt64(c3) AS total_space FROM VALUES(${disks})`),
        warehouse.command(`CREATE OR REPLACE VIEW other_storage_policies AS
          SELECT c1 AS policy_name, c2 AS disks FROM VALUES(${policies})`),
      ]);
    const diskNames = ({ disks }: GetStatusResponse) => disks.map(({ name }) => name);
    await stage.stopConsumer();
    await stage.append(eventRecord());
    hasOtherDisks = true;
    await define("('default', 5e11, 1e12), ('backups', 0, 1e12)", "('default', ['default']), ('cold', ['backups'])");
    const found = await statusThat((each) => has("consumer_stopped")(each) && diskNames(each).length === 1);
    expect([found.problems.length, diskNames(found)]).toEqual([1, ["clickhouse:default"]]);

    // Of several disks one that is full is none to wait for.
    await define("('default', 0, 1e12), ('second', 5e11, 1e12)", "('default', ['default', 'second'])");
    const beside = await statusThat((each) => diskNames(each)[0] === "clickhouse:second");
    expect(beside.problems.map(({ name }) => name)).toEqual(["consumer_stopped"]);

    await define("('default', 0, 1e12), ('second', 1e6, 1e12)", "('default', ['default', 'second'])");
    const full = await statusThat(has("disk_clickhouse:second"));
    expect(full.problems.map(({ text }) => text)).toEqual([
      expect.stringMatching(/the disk of ClickHouse \(second\) has been full since \S+Z .* 1 event waits on the log/),
    ]);
    hasOtherDisks = false;
    stage.startConsumer();
    await stage.drained();
    await statusThat(hasNone);
  });

  it("says that ClickHouse is away, that nothing is lost, and stops saying so", async () => {
    away.clickhouse = true;
    await stage.stopConsumer();
    await stage.append(eventRecord());
    const found = await statusThat((each) => has("clickhouse_away")(each) && each.topics[0]?.waiting === 1n);
    expect(found.problems).toHaveLength(1);
    expect(found.problems[0]?.text).toMatch(
      /^No rows since \S+Z: ClickHouse has not answered since \S+Z \(ClickHouse does not answer\)\. 1 event waits on the log, none is lost\.$/,
    );
    away.clickhouse = false;
    stage.startConsumer();
    await stage.drained();
    await statusThat(hasNone);
  });

  it("says that no events are taken while the log is away", async () => {
    away.log = true;
    const found = await statusThat(has("log_away"));
    expect(found.problems[0]?.text).toMatch(
      /^No events are taken: the event log could not be written since \S+Z \(no broker answers\)\. .* none is lost\.$/,
    );
    away.log = false;
    await statusThat(hasNone);
  });

  it("tells what the last verify found, and stops when a later one is sound", async () => {
    const env = { ...stage.env, KAFKA_BROKERS: "" };
    expect((await status()).lastVerify).toBeUndefined();
    const verify = async (...args: string[]) => callCommand(await mainOf("verify"), ["--wait", "10s", ...args], env);
    const { warehouse } = stage;
    const at = await stage.end();
    await stage.append(eventRecord());
    await warehouse.command(`DELETE FROM events_raw WHERE log_offset = ${at}`);
    expect((await verify()).code).toBe(1);
    const found = await statusThat(has("verify_failed"));
    expect(found.lastVerify).toMatchObject({ isProven: false, missing: 1n, doubled: 0n });
    expect(found.problems[0]?.text).toMatch(/^`millrace verify` found 1 events missing and 0 doubled at \S+Z/);
    expect((await verify("--repair")).code).toBe(0);
    const after = await statusThat(hasNone);
    expect(after.lastVerify).toMatchObject({ isProven: true, missing: 0n });
  });

  it("counts what gateways refused and what became a dead letter, and is the same in all forms", async () => {
    const send = (events: object[]) =>
      fetch(`${stage.gatewayUrl}/millrace.events.v1.EventService/Publish`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ events }),
      });
    await send([{ event: "" }, { event: "x".repeat(300) }, { event: " " }]);
    await stage.append(poisonRecord);
    const found = await statusThat((each) => has("dead_letters")(each));
    expect(found.refusals.map(({ reason, lastHour }) => [reason, lastHour])).toEqual([
      ["missing", 2n],
      ["too_large", 1n],
    ]);
    expect(found.deadLetters).toMatchObject({ total: 1n, lastHour: 1n, newestClass: "undecodable" });
    const stable = ({ problems, refusals, deadLetters, versions }: Record<string, unknown>) => ({
      ...{ problems, refusals, deadLetters, versions },
    });
    const told = stable(toJson(GetStatusResponseSchema, found) as Record<string, unknown>);
    const rest = await fetch(`${views.url}/v1/status`);
    expect(stable((await rest.json()) as Record<string, unknown>)).toEqual(told);
    const { out, code } = await views.run("status", "--json");
    expect([code, stable(JSON.parse(out))]).toEqual([0, told]);
  });
});
