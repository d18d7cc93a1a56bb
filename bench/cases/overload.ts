// More than the gateway can hold, as the package runs it: it must answer, stay small, stay up, and lose nothing that it
// acknowledged.
import type { LoadResult } from "../load.ts";
import { packageMillrace, startPackagedGateway } from "../packaged.ts";
import { CaseFailedError, expectCounted, type Result, type Setting } from "../result.ts";
import { runLoad } from "../run-load.ts";
import { startKafkaTarget } from "../stores.ts";

const CONNECTIONS = 120;
/** Of about 306 bytes: bodies of 1 to 3 MB. More events are not taken in one request. */
const EVENTS_PER_REQUEST = [3500, 5000, 7000, 10_000];
const RSS_MB_LIMIT = 300;
/** 429 is how Connect spells RESOURCE_EXHAUSTED over HTTP, the gateway's word for too many bytes in flight. */
const ALLOWED_STATUSES = new Set(["200", "429", "503"]);

export async function measureOverload(setting: Setting): Promise<Result> {
  const millrace = await packageMillrace(setting);
  await using target = await startKafkaTarget();
  await using gateway = await startPackagedGateway(millrace, target);
  const { port } = gateway;
  const seconds = setting.quick ? 3 : 15;
  setting.progress(`${CONNECTIONS} connections, bodies of 1 to 3 MB, half of them chunked, for ${seconds} s`);
  const before = gateway.read();
  const load = await runLoad(
    {
      port,
      kind: "connect-protobuf",
      seconds,
      connections: CONNECTIONS,
      eventsPerRequest: EVENTS_PER_REQUEST,
      chunked: true,
    },
    setting.signal,
  );
  const { cpuUs, rssMaxMb } = gateway.read();
  const rows = await target.count();
  expectCounted(load.acked, rows);
  const unexpected = Object.keys(load.statuses).filter((status) => isAnswer(status) && !ALLOWED_STATUSES.has(status));
  if (unexpected.length > 0) throw new CaseFailedError(`answered with ${unexpected.join(", ")}`);
  const ready = await fetch(`http://127.0.0.1:${port}/readyz`);
  if (ready.status !== 200) throw new CaseFailedError(`not ready after the load: ${await ready.text()}`);
  return {
    name: "gateway overload",
    events: load.events,
    acked: load.acked,
    rows,
    seconds: load.seconds,
    cpuUsPerEvent: (cpuUs - before.cpuUs) / rows,
    rssMaxMb,
    targets: [
      { what: "RSS max MB", measured: rssMaxMb, limit: RSS_MB_LIMIT },
      { what: "requests cut off without an answer", measured: countCutOff(load), limit: 1 },
    ],
    note: `answers ${Object.entries(load.statuses)
      .map(([status, count]) => `${status}: ${count}`)
      .join(", ")}; CPU includes refusals`,
  };
}

function isAnswer(status: string): boolean {
  return /^\d+$/.test(status);
}

function countCutOff({ statuses }: LoadResult): number {
  return Object.entries(statuses).reduce((sum, [status, count]) => sum + (isAnswer(status) ? 0 : count), 0);
}
