// What is asked for: the id of an event, or a place on the log.
import { formatUuid, parseUuid } from "#lib/events/ids.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { shortened } from "#lib/process/printable.ts";

export interface AskedId {
  kind: "id";
  /** UUID in lower case. */
  text: string;
}

export interface AskedPosition {
  kind: "position";
  text: string;
  /** As it was written: the begin of one, or "" for the epoch of now. */
  epoch: string;
  partition: number;
  offset: number;
}

export type Asked = AskedId | AskedPosition;

const BARE_UUID = /^[0-9a-f]{32}$/i;
const POSITION = /^(?:(.{1,100}):)?([\w.-]{1,249}):(\d{1,10}):(\d{1,15})$/;

/** Text: what is wrong. */
export function readAsked(text: string): Asked | string {
  const uuid = parseUuid(BARE_UUID.test(text) ? hyphened(text) : text);
  if (uuid) return { kind: "id", text: formatUuid(uuid) };
  const [, epoch = "", topic, partition, offset] = POSITION.exec(text) ?? [];
  if (topic === undefined) {
    return `${shortened(text, 60)} is neither the UUID of an event nor a position such as 1b2c3d4e:${EVENTS_TOPIC}:0:17`;
  }
  if (topic !== EVENTS_TOPIC) {
    return `${shortened(text, 60)} is not of ${EVENTS_TOPIC}: \`millrace dead-letters show\` has the letters of other topics`;
  }
  return { kind: "position", text, epoch, partition: Number(partition), offset: Number(offset) };
}

function hyphened(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
