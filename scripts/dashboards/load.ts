// Callers of every kind: good events, some that repeat themselves, some that break a rule, one without a key, and
// somebody who looks at the history.
import { setTimeout as sleep } from "node:timers/promises";
import { HASTY_KEY, KEY, type Millrace, RATE_LIMIT } from "./stack.ts";

const PAUSE_MS = 100;
const EVENTS_A_BATCH = 40;
const JSON_TYPE = { "content-type": "application/json" };

/** Until aborted; resolves with the number of requests. Rejects when an answer is not the one that was to be expected. */
export async function runLoad({ url, statsUrl }: Millrace, stop: AbortSignal): Promise<number> {
  let requests = 0;
  const ask = async (status: number, to: string, init: RequestInit = {}) => {
    const answer = await fetch(to, init);
    const text = await answer.text();
    if (answer.status !== status) throw new Error(`${to} answered ${answer.status}, not ${status}: ${text}`);
    requests++;
  };
  const post = (body: unknown, headers = {}) => ({
    method: "POST",
    headers: { ...JSON_TYPE, ...headers },
    body: JSON.stringify(body),
  });
  const bearer = { authorization: `Bearer ${KEY}` };
  // More than the limit of a second is let in once, and then owed: what comes next is too fast.
  await ask(200, `${url}/batch/`, post({ api_key: HASTY_KEY, batch: manyEvents(3 * RATE_LIMIT) }));
  await ask(429, `${url}/batch/`, post({ api_key: HASTY_KEY, batch: manyEvents(1) }));
  for (let round = 0; !stop.aborted; round++) {
    await ask(200, `${url}/batch/`, post({ api_key: KEY, batch: batchOf(round) }));
    await ask(200, `${url}/events`, post(eventOf(round), bearer));
    if (round % 5 === 0) {
      await ask(400, `${url}/events`, post({ ...eventOf(round), event_type: "" }, bearer));
      await ask(401, `${url}/events`, post(eventOf(round)));
      await ask(200, `${statsUrl}/keys`);
    }
    await sleep(PAUSE_MS);
  }
  return requests;
}

function manyEvents(count: number) {
  return Array.from({ length: count }, (_, index) => ({ event: "tick", distinct_id: `clock-${index % 7}` }));
}

function eventOf(round: number) {
  return { event_type: "order", source: "load", value: round, created_at: new Date().toISOString() };
}

function batchOf(round: number) {
  const timestamp = new Date().toISOString();
  const events = Array.from({ length: EVENTS_A_BATCH }, (_, index) => ({
    event: "$pageview",
    distinct_id: `visitor-${index}`,
    timestamp,
    properties: { $current_url: `https://shop.example/${index}` },
    // The first of each batch is one that came before.
    ...(index === 0 ? { uuid: "00000000-0000-4000-8000-000000000001" } : {}),
  }));
  const identify = {
    event: "$identify",
    distinct_id: `user-${round}`,
    properties: { $anon_distinct_id: `visitor-${round}` },
  };
  // Breaks a rule, and costs its neighbours nothing.
  const broken = { event: "x".repeat(1_000), distinct_id: "visitor-0", timestamp };
  return [...events, { ...identify, timestamp }, broken];
}
