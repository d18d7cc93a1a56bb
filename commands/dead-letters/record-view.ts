// A record as people read it: its fields under the names they have everywhere else, or its bytes.
import type { EventRecord, PointRecord } from "#gen/millrace/log/v1/log_pb.ts";
import { formatUuid } from "#lib/events/ids.ts";
import { pointId } from "#lib/events/point-record.ts";
import { readProperties } from "#lib/identity/facts.ts";

const BYTES_PER_LINE = 16;

/** Fields that are empty are left out; what is no JSON, no UUID or no date is shown as what it is. */
export function recordView(record: EventRecord): Record<string, unknown> {
  const fields = {
    event: record.event,
    id: idText(record.id),
    id_from_caller: record.idFromCaller,
    distinct_id: record.distinctId,
    source: record.source,
    value: numberView(record.value),
    time: timeText(record.timeUs),
    original_time: record.originalTime,
    received: timeText(record.receivedUs),
    properties: propertiesView(record.propertiesJson),
    api_key: record.apiKey,
    ip: record.ip,
    user_agent: record.userAgent,
    session_id: record.sessionId,
    window_id: record.windowId,
    elements_chain: record.elementsChain,
    current_url: record.currentUrl,
    host: record.host,
    anon_distinct_id: record.anonDistinctId,
    device_id: record.deviceId,
  };
  return withoutEmpty(fields);
}

export function pointView(point: PointRecord): Record<string, unknown> {
  return withoutEmpty({
    metric: point.metric,
    id: point.bootId.length === 16 ? idText(pointId(point)) : idText(point.bootId),
    value: numberView(point.value),
    tags: point.tags,
    time: timeText(point.timeUs),
    received: timeText(point.receivedUs),
    relay_id: point.relayId,
    collector: point.collector,
  });
}

function withoutEmpty(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined));
}

function idText(id: Uint8Array): string {
  return id.length === 16 ? formatUuid(id) : `${Buffer.from(id).toString("hex")} (no UUID)`;
}

/** JSON has no NaN. */
function numberView(value: number | undefined): number | string | undefined {
  return value === undefined || Number.isFinite(value) ? value : String(value);
}

/** Offset, hexadecimal, and the printable ASCII among it; at most `bytesMax` bytes. */
export function hexDump(bytes: Uint8Array, bytesMax: number): string[] {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, bytesMax); at += BYTES_PER_LINE) {
    const part = bytes.subarray(at, Math.min(at + BYTES_PER_LINE, bytesMax));
    const hex = Array.from(part, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = Array.from(part, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${hex.padEnd(BYTES_PER_LINE * 3 - 1)}  ${text}`);
  }
  if (bytes.length > bytesMax) lines.push(`… ${bytes.length - bytesMax} more bytes; --json has them all`);
  return lines;
}

/** Undefined when the bytes are not UTF-8. */
export function utf8Text(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // A TypeError is how the decoder says that the bytes are not UTF-8.
    return undefined;
  }
}

function timeText(us: bigint): string {
  const date = new Date(Number(us / 1000n));
  return Number.isNaN(date.getTime()) ? `${us} us` : date.toISOString();
}

/** That it is no JSON object may be why the letter is one: then it is shown as it is. */
function propertiesView(bytes: Uint8Array): unknown {
  const text = utf8Text(bytes);
  if (text === undefined) return `${Buffer.from(bytes).toString("hex")} (no UTF-8)`;
  return readProperties(bytes) ?? text;
}
