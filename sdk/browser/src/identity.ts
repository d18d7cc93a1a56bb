// Who the visitor is, shared by the tabs of an origin. Read from storage each time, since any tab may have changed it.
import { claim, type Database } from "./database.ts";
import { type KeyValue, readObject } from "./key-value.ts";
import { native } from "./native.ts";
import type { Properties } from "./types.ts";
import { uuidv7 } from "./uuid.ts";

export interface Ids {
  distinctId: string;
  deviceId: string;
  isIdentified: boolean;
}

export interface Identity {
  ids(): Ids;
  setIds(ids: Ids): void;
  /** Whether the distinct id was there before this page. */
  readonly wasKnown: boolean;
  properties(): Properties;
  changeProperties(change: (properties: Properties) => void): void;
  clearProperties(kept: Properties): void;
  isOptedOut(): boolean;
  setOptedOut(isOut: boolean): void;
  /** Another tab has written. */
  onStorage(key: string | null): void;
  /** Writes what was still to be agreed on: the page closes. */
  keep(): void;
}

export interface Agreement {
  /** Undefined where tabs share nothing. */
  database: Promise<Database | undefined> | undefined;
  /** Nothing is sent before this resolves. */
  waitFor(gate: Promise<void>): void;
  /** In events that wait. */
  replace(from: string, to: string): void;
}

const IDS = "millrace";
const PROPERTIES = "millrace.props";
const OPT_OUT = "millrace.optout";
/** Where clickhouse-product-analytics keeps the same: a page that changes over keeps its visitors. */
const PREDECESSOR = "clickhouse_product_analytics";
/** How long a property that another tab overwrote is written again. */
const DISPUTE_MS = 2000;

export function createIdentity(store: KeyValue, agreement: Agreement): Identity {
  if (store.get(IDS) === undefined) adoptPredecessor(store);
  let last = readIds(store);
  const wasKnown = last !== undefined;
  /** Not in storage yet: a tab that starts now must not take an id for settled that loses. */
  let provisional: Ids | undefined;
  let propertiesText: string | undefined;
  let parsed: Properties = {};
  const ownChanges = new Map<string, { value: unknown; atMs: number }>();

  function write(ids: Ids): void {
    last = ids;
    const { distinctId: distinct_id, deviceId: device_id, isIdentified: identified } = ids;
    store.set(IDS, native.stringify({ distinct_id, device_id, identified }));
  }

  function start(): void {
    const candidate = uuidv7();
    provisional = { distinctId: candidate, deviceId: candidate, isIdentified: false };
    const { database } = agreement;
    if (!database) {
      keep();
      return;
    }
    const settled = claim(database, { name: "identity", after: "", candidate }).then((winner) => {
      agreement.replace(candidate, winner);
      const ids = provisional ?? last;
      const winning = (id: string) => (id === candidate ? winner : id);
      provisional = undefined;
      if (ids) write({ ...ids, distinctId: winning(ids.distinctId), deviceId: winning(ids.deviceId) });
    });
    agreement.waitFor(settled);
  }

  function keep(): void {
    if (provisional) write(provisional);
    provisional = undefined;
  }

  function properties(): Properties {
    const text = store.get(PROPERTIES);
    if (text !== propertiesText) {
      propertiesText = text;
      parsed = readObject(store, PROPERTIES) ?? {};
    }
    return parsed;
  }

  function writeProperties(next: Properties): void {
    store.set(PROPERTIES, native.stringify(next));
  }

  if (!last) start();

  return {
    wasKnown,
    properties,
    keep,
    ids() {
      // A page that clears its storage stays the visitor it was.
      return provisional ?? readIds(store) ?? (last as Ids);
    },
    setIds(ids) {
      if (provisional) provisional = ids;
      else write(ids);
    },
    changeProperties(change) {
      const before = properties();
      const next = { ...before };
      change(next);
      for (const [key, value] of Object.entries(next)) {
        if (before[key] !== value) ownChanges.set(key, { value, atMs: native.monotonicMs() });
      }
      for (const key of Object.keys(before)) if (!(key in next)) ownChanges.delete(key);
      writeProperties(next);
    },
    clearProperties(kept) {
      ownChanges.clear();
      writeProperties(kept);
    },
    isOptedOut: () => store.get(OPT_OUT) === "1",
    setOptedOut: (isOut) => store.set(OPT_OUT, isOut ? "1" : "0"),
    onStorage(key) {
      if (key !== PROPERTIES) return;
      // Two tabs wrote at once, each from what it knew. Only missing ones are put back, so that two never dispute a value.
      const next = { ...properties() };
      const now = native.monotonicMs();
      for (const [name, own] of ownChanges) if (now - own.atMs > DISPUTE_MS) ownChanges.delete(name);
      const missing = [...ownChanges].filter(([name]) => !(name in next));
      for (const [name, own] of missing) next[name] = own.value;
      if (missing.length > 0) writeProperties(next);
    },
  };
}

function readIds(store: KeyValue): Ids | undefined {
  const found = readObject(store, IDS);
  if (typeof found?.distinct_id !== "string" || typeof found.device_id !== "string") return undefined;
  return { distinctId: found.distinct_id, deviceId: found.device_id, isIdentified: found.identified === true };
}

function adoptPredecessor(store: KeyValue): void {
  const { distinctId, deviceId, userState, optedOut, superProperties } = readObject(store, PREDECESSOR) ?? {};
  if (typeof distinctId !== "string" || typeof deviceId !== "string" || distinctId === "") return;
  const identified = userState === "identified";
  store.set(IDS, native.stringify({ distinct_id: distinctId, device_id: deviceId, identified }));
  if (optedOut === true) store.set(OPT_OUT, "1");
  if (typeof superProperties === "object" && superProperties) store.set(PROPERTIES, native.stringify(superProperties));
}
