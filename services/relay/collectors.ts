// The collectors that one connection has registered, and the tags they give their points.
import { textFault } from "#lib/relay-protocol/lines.ts";

/** As a relay wrote it: its tags in their order. */
export interface RegisteredCollector {
  name: string;
  tags: readonly string[];
}

export interface Collectors {
  /** What follows the word `add`. False: it has no name that is text, or is over the connection's limits. */
  add(text: string): boolean;
  remove(name: string): void;
  /** Tags of a point from this collector: `host` and its own. For an unknown one, `host` alone. */
  tagsOf(name: string): Readonly<Record<string, string>>;
  has(name: string): boolean;
  /** The `get` line with all names; undefined when there is none. */
  readonly getLine: string | undefined;
  list(): RegisteredCollector[];
}

interface Entry {
  tags: readonly string[];
  pointTags: Readonly<Record<string, string>>;
  bytes: number;
}

const COLLECTORS_MAX = 1_000;
const NAME_BYTES_MAX = 200;
const TAGS_MAX = 32;
const TAG_BYTES_MAX = 256;
/** Names and tags of one connection. */
const STATE_BYTES_MAX = 64 * 1024;

/** `onTagsLeftOut` hears how many tags of a collector are no text or over the limits; they are not stored. */
export function createCollectors(host: string, onTagsLeftOut: (count: number) => void): Collectors {
  const entries = new Map<string, Entry>();
  const hostTags = pointTags(host, []);
  let stateBytes = 0;
  let getLine: string | undefined;

  function remove(name: string): void {
    stateBytes -= entries.get(name)?.bytes ?? 0;
    entries.delete(name);
    getLine = undefined;
  }

  return {
    add(text) {
      const colon = text.indexOf(":");
      const name = colon < 0 ? text : text.slice(0, colon);
      const given = colon < 0 || colon === text.length - 1 ? [] : text.slice(colon + 1).split(",");
      const tags = given.slice(0, TAGS_MAX).filter(isTag);
      const bytes = Buffer.byteLength(name) + tags.reduce((sum, tag) => sum + Buffer.byteLength(tag), 0);
      const replaced = entries.get(name);
      if (name === "" || Buffer.byteLength(name) > NAME_BYTES_MAX || textFault(name)) return false;
      if (!replaced && entries.size >= COLLECTORS_MAX) return false;
      if (stateBytes - (replaced?.bytes ?? 0) + bytes > STATE_BYTES_MAX) return false;
      if (tags.length < given.length) onTagsLeftOut(given.length - tags.length);
      remove(name);
      entries.set(name, { tags, pointTags: pointTags(host, tags), bytes });
      stateBytes += bytes;
      return true;
    },
    remove,
    tagsOf: (name) => entries.get(name)?.pointTags ?? hostTags,
    has: (name) => entries.has(name),
    get getLine() {
      if (entries.size > 0) getLine ??= `get ${[...entries.keys()].join()}`;
      return getLine;
    },
    list: () => Array.from(entries, ([name, { tags }]) => ({ name, tags })),
  };
}

function isTag(text: string): boolean {
  return Buffer.byteLength(text) <= TAG_BYTES_MAX && textFault(text) === undefined;
}

/** Only tags with a colon are stored. The last of a key wins, also over the id; an empty value is as good as none. */
function pointTags(host: string, tags: readonly string[]): Readonly<Record<string, string>> {
  const found = new Map([["host", host]]);
  for (const tag of tags) {
    const colon = tag.indexOf(":");
    if (colon > 0) found.set(tag.slice(0, colon), tag.slice(colon + 1));
  }
  // fromEntries makes own properties of all keys, `__proto__` too.
  return Object.fromEntries([...found].filter(([, value]) => value !== ""));
}
