// A log of which one partition takes nothing: each request hears of its own events.
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { Registry } from "prom-client";
import { expect, it } from "vitest";
import { EventService, RejectionCode } from "#gen/millrace/events/v1/events_pb.ts";
import { LogUnavailableError, type OpenLog, type Position } from "#lib/eventlog/log.ts";
import { PartialAppendError } from "#lib/eventlog/partial-append.ts";
import { decodeRecord } from "#lib/events/record.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { defaultsOf } from "../../bench/defaults.ts";
import { startGateway } from "../../services/gateway/app.ts";
import { ingressSettings } from "../../services/gateway/config.ts";
import { text } from "../kit/eventlog-reading.ts";
import { createScriptedLog } from "../kit/scripted-log.ts";

/** The scripted log, but records of keys that begin with "bad" are not taken. */
async function startOverBadPartition() {
  const scripted = createScriptedLog({ partitions: 4 });
  await scripted.createTopics([{ topic: EVENTS_TOPIC, partitions: 4 }]);
  const appended: number[] = [];
  const log: OpenLog = {
    ...scripted,
    async append(topic, records) {
      appended.push(records.length);
      const isBad = records.map(({ key }) => text(key).startsWith("bad"));
      const positions = await scripted.append(
        topic,
        records.filter((_, i) => !isBad[i]),
      );
      if (positions.length === records.length) return positions;
      const away = new LogUnavailableError("a partition is away");
      if (positions.length === 0) throw away;
      const outcomes = isBad.map((bad) => (bad ? away : (positions.shift() as Position)));
      throw new PartialAppendError("some are stored", outcomes, away);
    },
  };
  const config = { ...defaultsOf(ingressSettings), host: "127.0.0.1", port: 0 };
  const gateway = await startGateway(config, { log, registry: new Registry(), logger: pino({ level: "silent" }) });
  const transport = createConnectTransport({ baseUrl: `http://127.0.0.1:${gateway.port}`, httpVersion: "2" });
  const publish = (ids: string[]) =>
    createClient(EventService, transport).publish({ events: ids.map((distinctId) => ({ event: "e", distinctId })) });
  return {
    publish,
    appended,
    stored: () => scripted.appends.map(({ value }) => decodeRecord(value).distinctId),
    [Symbol.asyncDispose]: () => gateway[Symbol.asyncDispose](),
  };
}

it("events of the bad partition are refused one by one as retryable, the others are stored and counted", async () => {
  await using gateway = await startOverBadPartition();
  const answer = await gateway.publish(["bad-1", "good-1", "good-2", "bad-2", "bad-3", "good-3"]);
  expect(answer.accepted).toBe(3);
  expect(answer.rejected.map(({ index }) => index)).toEqual([0, 3, 4]);
  for (const rejection of answer.rejected) {
    expect(rejection).toMatchObject({ code: RejectionCode.UNAVAILABLE, field: "", retryable: true });
  }
  expect(gateway.stored().sort()).toEqual(["good-1", "good-2", "good-3"]);
});

it("of requests that share the append, one without a bad event is accepted, one without a good one is unavailable", async () => {
  await using gateway = await startOverBadPartition();
  const [good, mixed, bad] = await Promise.all([
    gateway.publish(["good-1", "good-2"]),
    gateway.publish(["good-3", "bad-1"]),
    gateway.publish(["bad-2"]).catch((error: unknown) => error),
  ]);
  expect(gateway.appended).toEqual([5]);
  expect(good).toMatchObject({ accepted: 2, rejected: [] });
  expect(mixed).toMatchObject({ accepted: 1, rejected: [{ index: 1 }] });
  expect(bad).toMatchObject({
    name: "ConnectError",
    rawMessage: expect.stringContaining("send the request again") as string,
  });
});
