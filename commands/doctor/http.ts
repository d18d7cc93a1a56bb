// The services' own words: are they there, ready, and do they know our key.
import { reasonOf } from "./failure.ts";
import type { Finding, Result } from "./probe.ts";

/** A gateway or stats that answers, ready or not. */
export interface Service {
  url: string;
  /** Its clock minus ours, milliseconds, as far as a header in whole seconds tells; undefined: it sent none. */
  clockSkewMs: number | undefined;
}

interface Answer {
  status: number;
  body: unknown;
  text: string;
  dateMs: number;
  sentMs: number;
  receivedMs: number;
}

/** Header values with whole seconds are half a second behind on average. */
const DATE_HEADER_LAG_MS = 500;

/** Rejects with the reason of a fired signal, or fetch's TypeError when there is no connection. */
async function request(url: string, init: RequestInit & { signal: AbortSignal }): Promise<Answer> {
  const sentMs = Date.now();
  const response = await fetch(url, init);
  const text = await response.text();
  const dateMs = Date.parse(response.headers.get("date") ?? "");
  return { status: response.status, body: parse(text), text, dateMs, sentMs, receivedMs: Date.now() };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Something else answers there; its words are judged as text.
    return undefined;
  }
}

/** `what`: "the gateway"; `setting` names its address, `start` is the command that starts it. */
export async function checkReady(
  { what, url, setting, start }: { what: string; url: string; setting: string; start: string },
  signal: AbortSignal,
): Promise<Result<Service>> {
  let answer: Answer;
  try {
    answer = await request(`${url}/readyz`, { signal });
  } catch (error) {
    const reason = error instanceof Error ? reasonOf(error) : "";
    return { status: "fail", what: `no answer at ${url}${reason}`, fix: `start ${start}, or name it with ${setting}` };
  }
  const { checks } = (answer.body ?? {}) as { checks?: Record<string, string> };
  if (![200, 503].includes(answer.status) || typeof checks !== "object") {
    const said = `${url}/readyz answered ${answer.status}`;
    return { status: "fail", what: `${said}, not as Millrace does`, fix: `name ${what} with ${setting}` };
  }
  const skew = answer.dateMs + DATE_HEADER_LAG_MS - (answer.sentMs + answer.receivedMs) / 2;
  const value = { url, clockSkewMs: Number.isNaN(skew) ? undefined : skew };
  if (answer.status === 200) return { status: "ok", what: `ready at ${url}`, value };
  const reasons = Object.entries(checks).filter(([, reason]) => reason !== "ok");
  const said = reasons.map(([name, reason]) => `${name}: ${reason}`).join("; ");
  const fix = said === "" ? "it is stopping: start it again" : "its reasons are looked into by the checks below";
  return { status: "fail", what: `${url} is not ready: ${said || "draining"}`, fix, value };
}

/** Sends a body that a known key gets refused for, so that nothing is stored. */
export async function checkKey(url: string, apiKey: string | undefined, signal: AbortSignal): Promise<Finding> {
  const headers = { ...keyHeaders(apiKey), "content-type": "application/json" };
  const { status } = await request(`${url}/events`, { method: "POST", headers, body: "{}", signal });
  if (status === 400) {
    return { status: "ok", what: apiKey === undefined ? "the gateway asks for none" : "the gateway takes it" };
  }
  if (status === 401) {
    const what = apiKey === undefined ? "the gateway asks for a key and none is set" : "the gateway does not know it";
    return { status: "fail", what, fix: "set MILLRACE_API_KEY to one of the gateway's PUBLIC_API_KEYS" };
  }
  return {
    status: "warn",
    what: `POST /events answered ${status} instead of 400 or 401: cannot tell whether it takes the key`,
  };
}

function keyHeaders(apiKey: string | undefined): Record<string, string> {
  return apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
}

export interface SentEvent {
  id: string;
  sentMs: number;
}

/** Resolves when the gateway has said that the event is durable. */
export async function sendEvent(
  url: string,
  apiKey: string | undefined,
  event: Record<string, unknown> & { id: string },
  signal: AbortSignal,
): Promise<Result<SentEvent>> {
  const headers = { ...keyHeaders(apiKey), "content-type": "application/json" };
  const answer = await request(`${url}/events`, { method: "POST", headers, body: JSON.stringify(event), signal });
  const { status, body, text, sentMs, receivedMs } = answer;
  if (status === 200) {
    const what = `the gateway said that it is durable after ${receivedMs - sentMs} ms`;
    return { status: "ok", what, value: { id: event.id, sentMs } };
  }
  const { error = text.slice(0, 200) } = (body ?? {}) as { error?: string };
  const what = `the gateway answered ${status}: ${error}`;
  return { status: "fail", what, fix: SEND_FIXES.get(status) ?? "see the gateway's log" };
}

const SEND_FIXES = new Map([
  [401, "set MILLRACE_API_KEY to one of the gateway's PUBLIC_API_KEYS"],
  [429, "wait, or raise RATE_LIMIT_EVENTS"],
  [503, "check the log: the gateway's /readyz and log have the reason"],
]);
