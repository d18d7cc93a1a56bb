// Events, people, points and a dead letter for the console to show: a day of a small shop.
import { ownerHeaders } from "#lib/warehouse/owner-key.ts";
import { scopeOf } from "../../services/stats/alerts/transitions.ts";
import type { RunningStandalone } from "./standalone.ts";
import { until } from "./until.ts";

const NAMES = [
  "page_view",
  "page_view",
  "page_view",
  "page_view",
  "search",
  "search",
  "add_to_cart",
  "checkout",
  "signed_up",
];
const PLANS = ["free", "free", "free", "pro", "team"];
const PATHS = ["/", "/pricing", "/docs", "/docs/start", "/blog", "/shop"];
const PEOPLE = 40;
const HOUR_MS = 3_600_000;
const STORED_MS_MAX = 20_000;

/** A number from 0 to 1 that is the same each time. */
function spread(n: number): number {
  const x = Math.sin(n * 12.9898) * 43758.5453;
  return x - Math.floor(x);
}

function pick<T>(list: readonly T[], n: number): T {
  return list[Math.floor(spread(n) * list.length)] as T;
}

/** Stores the scene; resolves with what to add to the address of a view so that it shows some of it. */
export async function seedConsole(
  standalone: RunningStandalone,
  { hasLetters = true, count = 4_000 } = {},
): Promise<Record<string, string>> {
  const { url, clickhouseUrl, query } = standalone;
  const now = Date.now();
  const events = Array.from({ length: count }, (_, n) => {
    // More by day than by night.
    const hour = Math.floor(24 * Math.sqrt(spread(n + 0.5)));
    const person = Math.floor(PEOPLE * spread(n + 0.25) ** 2);
    return {
      event: pick(NAMES, n),
      distinctId: `user_${100 + person}`,
      time: new Date(now - (24 - hour) * HOUR_MS + spread(n + 0.75) * HOUR_MS - 1).toISOString(),
      source: pick(["web", "web", "ios", "android"], n + 0.1),
      properties: {
        path: pick(PATHS, n + 0.2),
        plan: pick(PLANS, person + 0.3),
        browser: pick(["Firefox", "Chrome", "Safari"], person + 0.4),
        items: Math.floor(spread(n + 0.6) * 5),
      },
    };
  });
  for (let person = 0; person < PEOPLE; person += 2) {
    events.push({
      ...{
        event: "$identify",
        distinctId: `user_${100 + person}`,
        time: new Date(now - 60_000).toISOString(),
        source: "web",
      },
      properties: {
        $anon_distinct_id: `anon_${person}`,
        $set: { email: `user${person}@example.com`, plan: pick(PLANS, person + 0.3) },
      },
    } as unknown as (typeof events)[number]);
  }
  for (let at = 0; at < events.length; at += 1_000) await publish(url, events.slice(at, at + 1_000));
  const points = Array.from({ length: 600 }, (_, n) => ({
    ...{ metric: n % 2 ? "cpu_used" : "ram_used", host: `web-${(n >> 1) % 3}` },
    value: 0.3 + 0.2 * Math.sin(n / 60) + 0.1 * spread(n),
    agoMs: Math.floor(n / 6) * 120_000,
  }));
  await insert(
    standalone,
    `INSERT INTO millrace.points (uuid, metric, value, tags, time, inserted_at, relay_id, collector, log_epoch, log_topic, log_partition, log_offset, log_time) VALUES ${points
      .map(({ metric, host, value, agoMs }, n) => {
        const at = `fromUnixTimestamp64Milli(${now - agoMs})`;
        return `(generateUUIDv4(), '${metric}', ${value}, map('host','${host}'), ${at}, ${at}, 'r', 'c', 'scene', 'millrace.points', 9, ${n}, now64(3))`;
      })
      .join(",")}`,
  );
  await insertAlerts(standalone, now);
  if (hasLetters)
    await insert(
      standalone,
      `INSERT INTO millrace.dead_letters VALUES ('scene', 'millrace.events', 9, 17, now64(3), 'undecodable', 'the record is not an event: invalid wire type 7 at byte 12', '', base64Encode('page_view user_104 {"path":"/shop"}')),
    ('scene', 'millrace.events', 9, 18, now64(3), 'too_old', 'time: 1969-12-31 is before 1970', '', base64Encode('page_view user_105'))`,
    );
  const id = await publishOne(url);
  const landed = `SELECT count() FROM millrace.events_raw`;
  await until(
    async () => (await query(landed)) === String(events.length + 1),
    `the scene is stored at ${clickhouseUrl}`,
    STORED_MS_MAX,
  );
  return { events: "?event=page_view&by=plan", people: "?id=user_100", where: `?id=${id}` };
}

/** One that has nothing to say, and one that is in the red again on one of two hosts. */
async function insertAlerts(standalone: RunningStandalone, now: number): Promise<void> {
  const [quiet, flapping] = [crypto.randomUUID(), crypto.randomUUID()];
  const at = (hoursAgo: number) => `fromUnixTimestamp64Milli(${Math.round(now - hoursAgo * HOUR_MS)})`;
  const definition = (id: string, hours: number, metric: string, threshold: number, groupBy: string) =>
    `('${id}', 1, 0, generateUUIDv4(), '${metric}', map(), 'crit', 'gt', ${threshold}, NULL, 300000, '5m', 'http://127.0.0.1:9/', ${groupBy}, 'keep', ${at(hours)}, ${at(hours)})`;
  await insert(
    standalone,
    `INSERT INTO millrace.alerts VALUES ${definition(quiet, 30, "queue_length", 1_000, "[]")}, ${definition(flapping, 20, "disk_used", 0.9, "['host']")}`,
  );
  const changes = [
    ["web-2", "crit", 9, 0.93],
    ["web-2", "ok", 6, 0.71],
    ["web-1", "crit", 2, 0.97],
  ] as const;
  const ids = changes.map(() => crypto.randomUUID());
  const scope = scopeOf({ metric: "disk_used", tags: {}, groupBy: ["host"] });
  const columns = "kind, transition_id, alert_id, at";
  await insert(
    standalone,
    `INSERT INTO millrace.alert_events (${columns}, alert_version, scope, group_tags, level, previous_level, value, window_start, metric, payload, post)
     VALUES ${changes.map(([host, level, hours, value], n) => `('transition', '${ids[n]}', '${flapping}', ${at(hours)}, 1, '${scope}', map('host', '${host}'), '${level}', '${level === "ok" ? "crit" : "ok"}', ${value}, ${at(hours + 1)}, 'disk_used', '{}', 'http://127.0.0.1:9/')`).join()}`,
  );
  await insert(
    standalone,
    `INSERT INTO millrace.alert_events (${columns}, attempts, http_status, error)
     VALUES ${changes.map(([, , hours], n) => `('delivered', '${ids[n]}', '${flapping}', ${at(hours)}, 1, 200, '')`).join()}`,
  );
}

/** Events, or their JSON text. Rejects unless all of them are taken. */
export async function publish(url: string, events: readonly object[] | string): Promise<void> {
  const answer = await post(url, events);
  const text = await answer.text();
  if (!answer.ok || text.includes("rejected")) throw new Error(text.slice(0, 300));
}

export function post(url: string, events: readonly object[] | string): Promise<Response> {
  return fetch(`${url}/millrace.events.v1.EventService/Publish`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: `{"events":${typeof events === "string" ? events : JSON.stringify(events)}}`,
  });
}

/** Resolves with the event's id. */
async function publishOne(url: string): Promise<string> {
  const id = crypto.randomUUID();
  await publish(url, [
    { id, event: "first_event", distinctId: "user_100", source: "console", properties: { plan: "pro" } },
  ]);
  return id;
}

/** What no gateway sends: rows as they are. */
export async function insert({ clickhouseUrl, dataDir }: RunningStandalone, sql: string): Promise<void> {
  const answer = await fetch(clickhouseUrl, {
    method: "POST",
    body: sql,
    headers: ownerHeaders(dataDir, clickhouseUrl),
  });
  if (!answer.ok) throw new Error(await answer.text());
}
