// The collectors of one relay client: names, tags, and running them without one of them holding up the others.
import { within } from "#lib/process/waiting.ts";
import { formatItem } from "./items.ts";
import { textFault } from "./lines.ts";

/** One number: a point collector. Numbers by name: a set collector; the name "" stands for the collector's own. */
export type Measured = number | Readonly<Record<string, number>>;
export type Collector = () => Measured | Promise<Measured>;

export interface CollectorSet {
  /** Throws a TypeError for a name or a tag that the protocol cannot carry, and for a name that is taken. */
  add(name: string, collector: Collector, tags: readonly string[]): void;
  /** False: there is none of that name. */
  remove(name: string): boolean;
  readonly names: readonly string[];
  /** The command that registers it at the server. */
  addLine(name: string): string;
  /**
   * Runs those that are known, side by side. Entries in the order of `names`; a collector that still runs from an
   * earlier call, fails or takes too long has none.
   */
  collect(names: readonly string[]): Promise<[collector: string, name: string, value: number][]>;
}

export interface CollectorOptions {
  timeoutMs: number;
  /** A collector that threw, took too long, or gave something that is no finite number under a name that fits. */
  onFault(name: string, error: Error): void;
}

interface Entry {
  collector: Collector;
  tags: readonly string[];
  busy: boolean;
}

export function createCollectorSet({ timeoutMs, onFault }: CollectorOptions): CollectorSet {
  const entries = new Map<string, Entry>();

  async function run(name: string, entry: Entry): Promise<[string, string, number][]> {
    if (entry.busy) return [];
    try {
      const measuring = entry.collector();
      if (!(measuring instanceof Promise)) return values(name, measuring);
      entry.busy = true;
      const done = measuring.finally(() => {
        entry.busy = false;
      });
      return values(name, await within(timeoutMs, done, () => new Error(`no value within ${timeoutMs} ms`)));
    } catch (error) {
      onFault(name, error instanceof Error ? error : new Error(String(error)));
      return [];
    }
  }

  function values(name: string, measured: Measured): [string, string, number][] {
    const named = typeof measured === "number" ? { "": measured } : measured;
    return Object.entries(named).flatMap(([key, value]): [string, string, number][] => {
      if (Number.isFinite(value) && isText(key) && !/[-:,]/.test(key)) return [[name, key || name, value]];
      onFault(
        name,
        new TypeError(
          `the value ${JSON.stringify(key)} is ${value}, or its name has one of - : , or a control character in it`,
        ),
      );
      return [];
    });
  }

  return {
    add(name, collector, tags) {
      const fault = nameFault(name) ?? tags.map(tagFault).find((each) => each !== undefined);
      if (fault !== undefined) throw new TypeError(fault);
      if (entries.has(name)) throw new TypeError(`cannot add a duplicate collector to the set: ${name}`);
      entries.set(name, { collector, tags, busy: false });
    },
    remove: (name) => entries.delete(name),
    get names() {
      return [...entries.keys()];
    },
    // The colon is there without tags too, as pulse's relays have it.
    addLine: (name) => `add ${name}:${(entries.get(name)?.tags ?? []).join()}`,
    async collect(names) {
      const wanted = names.flatMap((name) => {
        const entry = entries.get(name);
        return entry ? [run(name, entry)] : [];
      });
      return (await Promise.all(wanted)).flat();
    },
  };
}

/** The items of a `got` line. */
export function gotLine(values: readonly [collector: string, name: string, value: number][]): string {
  return `got ${values.map(([collector, name, value]) => formatItem({ collector, name, value })).join()}`;
}

/** Undefined for a name that a collector may have. */
export function nameFault(name: string): string | undefined {
  if (name !== "" && name !== "_connected" && isText(name) && !/[-:,]/.test(name)) return undefined;
  return `cannot use - or : or , or _connected in your name: ${JSON.stringify(name)}`;
}

function tagFault(tag: string): string | undefined {
  if (isText(tag) && !tag.includes(",")) return undefined;
  return `cannot use , or control characters in a tag: ${JSON.stringify(tag)}`;
}

/** Half of a surrogate pair becomes U+FFFD on the wire. */
function isText(text: string): boolean {
  return textFault(text.toWellFormed()) === undefined;
}
