// Whether what was imported is in ClickHouse already: what the gateway acknowledged is on the log, and consumers store it.
import { setTimeout as pause } from "node:timers/promises";

const pollMs = 500;
/** The consumer measures its lag every 2 s: a zero that is older than this was measured after the question. */
const measuredMs = 2_500;
const answerMs = 5_000;
const lagLine = /^millrace_lag_records\{[^}]*topic="millrace\.events"[^}]*\} (\d+)/gm;

/**
 * Waits until the consumers have stored what is on the log now. Resolves with the number of events still missing when
 * `waitMs` are over, and with undefined where the gateway does not show it: with Kafka, consumers are other processes.
 */
export async function waitUntilStored(url: string, waitMs: number, signal: AbortSignal): Promise<number | undefined> {
  const startedMs = performance.now();
  let wasBehind = false;
  for (;;) {
    const lag = await lagOf(url, signal);
    const elapsedMs = performance.now() - startedMs;
    if (lag === undefined) return undefined;
    if (lag === 0 && (wasBehind || elapsedMs >= measuredMs)) return 0;
    if (elapsedMs >= waitMs) return lag;
    wasBehind ||= lag > 0;
    await pause(pollMs, undefined, { signal });
  }
}

async function lagOf(url: string, signal: AbortSignal): Promise<number | undefined> {
  try {
    const answer = await fetch(`${url}/metrics`, { signal: AbortSignal.any([signal, AbortSignal.timeout(answerMs)]) });
    const lags = answer.ok ? [...(await answer.text()).matchAll(lagLine)].map(([, records]) => Number(records)) : [];
    return lags.length === 0 ? undefined : lags.reduce((sum, lag) => sum + lag, 0);
  } catch {
    signal.throwIfAborted();
    // The import itself is done; a gateway that leaves now is no failure of it.
    return undefined;
  }
}
