// What a receiver gets. Keys and words are those of Kapacitor's HTTP alerts (section 2.4 of pulse's API); alertId,
// transitionId, previousLevel, group and, of a test, `test` are added.
import { createHmac } from "node:crypto";
import type { TransitionLevel } from "./transitions.ts";

const LEVEL_WORDS: Readonly<Record<TransitionLevel, string>> = {
  ok: "OK",
  info: "INFO",
  warn: "WARNING",
  crit: "CRITICAL",
};
const NS_PER_MS = 1_000_000;

export interface WebhookContent {
  transitionId: string;
  alertId: string;
  /** Of webhookId. */
  id: string;
  metric: string;
  /** Of the alert and of the group together. */
  tags: Readonly<Record<string, string>>;
  group: Readonly<Record<string, string>>;
  level: TransitionLevel;
  previousLevel: TransitionLevel;
  /** Undefined: there were no points. */
  value: number | undefined;
  atMs: number;
  windowStartMs: number;
  /** When the level left ok. */
  leftOkAtMs: number;
  isTest?: boolean;
}

/** How receivers know an alert of old: the values of its tags, in the order of the tags' names, and the metric. */
export function webhookId(metric: string, tags: Readonly<Record<string, string>>): string {
  const names = Object.keys(tags).sort();
  return `[${names.map((name) => tags[name]).join("|")}] ${metric}`;
}

/** JSON and a line break. */
export function webhookBody(content: WebhookContent): string {
  const { id, metric, tags, group, level, value } = content;
  const column = `mean_${metric}`;
  const message = `${id} is ${LEVEL_WORDS[level]} ${value === undefined ? "no data" : `value:${value}`}`;
  // As Kapacitor has it: a breach is dated by the window it was seen in, a recovery by its evaluation.
  const time = new Date(level === "ok" ? content.atMs : content.windowStartMs).toISOString();
  const duration = Math.max(0, content.atMs - content.leftOkAtMs) * NS_PER_MS;
  const payload = {
    id,
    message,
    details: escapeHtml(
      JSON.stringify({
        Name: metric,
        TaskName: content.alertId,
        Group: groupText(group),
        Tags: tags,
        ID: id,
        Fields: { [column]: value ?? null },
        Level: LEVEL_WORDS[level],
        Time: time,
        Duration: duration,
        Message: message,
      }),
    ),
    time,
    duration,
    level: LEVEL_WORDS[level],
    data: { series: [{ name: metric, columns: ["time", column], values: [[time, value ?? null]] }] },
    previousLevel: LEVEL_WORDS[content.previousLevel],
    alertId: content.alertId,
    transitionId: content.transitionId,
    group,
    ...(content.isTest ? { test: true } : {}),
  };
  return `${JSON.stringify(payload)}\n`;
}

function groupText(group: Readonly<Record<string, string>>): string {
  const names = Object.keys(group).sort();
  return names.length === 0 ? "nil" : names.map((name) => `${name}=${group[name]}`).join(",");
}

const HTML_ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&#34;",
  "'": "&#39;",
  "+": "&#43;",
};

/** As Go's html/template does, which made these texts. */
function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"'+]/g, (character) => HTML_ENTITIES[character] ?? character);
}

/**
 * Value of X-Millrace-Signature: `t=<seconds>,v1=<hex>`, the HMAC-SHA256 of `<seconds>.<body>`. The time is that of the
 * attempt, so that a receiver can refuse what somebody recorded and sent again later.
 */
export function webhookSignature(secret: string, body: string, nowMs: number): string {
  const seconds = Math.floor(nowMs / 1000);
  return `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`;
}
