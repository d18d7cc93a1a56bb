// @millrace/browser: what a page calls, and how its parts are put together.
import { openDatabase } from "./database.ts";
import { createDelivery, type Delivery } from "./delivery.ts";
import { makeEvent } from "./event.ts";
import { createIdentity, type Identity } from "./identity.ts";
import { createKeyValue } from "./key-value.ts";
import { native } from "./native.ts";
import { isNoId } from "./no-id.ts";
import { type Options, readOptions } from "./options.ts";
import { pageProperties, watchPages } from "./pages.ts";
import { createQueueStore, NO_STORE } from "./queue-store.ts";
import { sanitize } from "./sanitize.ts";
import { createSender } from "./sender.ts";
import { createSession, type Session } from "./session.ts";
import type { AnalyticsEvent, CaptureOptions, Counters, InitOptions, Properties, TransportName } from "./types.ts";
import { uuidv7 } from "./uuid.ts";

export type {
  AnalyticsEvent,
  AutocaptureConfig,
  BeforeSend,
  CaptureOptions,
  Counters,
  InitOptions,
  Properties,
  Transport,
  TransportName,
  TransportPayload,
} from "./types.ts";

interface Running {
  options: Options;
  identity: Identity;
  session: Session;
  delivery: Delivery;
  counters: Counters;
  stop(): void;
}

/** A client. Every method throws before `init` unless it says otherwise. */
export class Millrace {
  #running: Running | undefined;
  #optOutBeforeInit: boolean | undefined;

  /** Starts capturing; returns the client. A second call without `shutdown` changes nothing. Throws without apiHost. */
  init(options: InitOptions): this;
  init(apiKey: string, options: Omit<InitOptions, "apiKey">): this;
  init(keyOrOptions: string | InitOptions, more?: Omit<InitOptions, "apiKey">): this {
    if (this.#running) return this;
    const given = typeof keyOrOptions === "string" ? { ...(more as InitOptions), apiKey: keyOrOptions } : keyOrOptions;
    const options = readOptions(given);
    this.#running = assemble(options);
    if (this.#optOutBeforeInit !== undefined) this.#running.identity.setOptedOut(this.#optOutBeforeInit);
    this.#running.stop = this.#watch(this.#running);
    return this;
  }

  /** Queues an event and returns it; undefined when it was not taken (opted out, dropped by beforeSend, invalid). */
  capture(name: string, properties: Properties = {}, options: CaptureOptions = {}): AnalyticsEvent | undefined {
    const { counters, delivery, identity, options: set, session } = this.#started();
    if (identity.isOptedOut()) return undefined;
    counters.captured++;
    const about = { name, properties, options, ids: identity.ids(), registered: identity.properties() };
    const made = makeEvent({ ...about, ...session.touch() }, set);
    if (typeof made === "string") {
      counters[made]++;
      return undefined;
    }
    const { event, json } = made;
    delivery.add(event, json, options.timestamp === undefined);
    if (options.send_instantly || options.transport || !set.requestBatching) {
      // A failure queues it again and shows in the counters.
      this.flush(options.transport).catch(() => undefined);
    }
    return event;
  }

  /**
   * From now on the visitor is this person. Sends `$identify` when the visitor was anonymous, else `$set` if there are
   * properties. Throws for a text that is no id, such as null, undefined or guest.
   */
  identify(id?: string, set?: Properties, setOnce?: Properties): void {
    const { identity } = this.#started();
    const distinctId = String(id ?? "").trim();
    if (isNoId(distinctId)) throw new Error(`identify: ${JSON.stringify(id)} is no distinct id`);
    const before = identity.ids();
    identity.setIds({ ...before, distinctId, isIdentified: true });
    identity.changeProperties((all) => {
      all.$user_id = distinctId;
      all.$device_id = before.deviceId;
      all.$had_persisted_distinct_id = identity.wasKnown;
    });
    if (before.isIdentified || before.distinctId === distinctId) {
      this.setPersonProperties(set, setOnce);
    } else {
      const about = { $anon_distinct_id: before.distinctId, $set: set ?? {}, $set_once: setOnce ?? {} };
      this.capture("$identify", about, { send_instantly: true });
    }
  }

  /** Sends `$set`; nothing when there are no properties. */
  setPersonProperties(set: Properties = {}, setOnce: Properties = {}): void {
    this.#started();
    if (Object.keys(set).length + Object.keys(setOnce).length === 0) return;
    this.capture("$set", { $set: set, $set_once: setOnce }, { send_instantly: true });
  }

  /** `alias` becomes another id of the person behind `original`, by default the current visitor. */
  alias(alias: string, original?: string): AnalyticsEvent | undefined {
    const options: CaptureOptions = { send_instantly: true };
    if (original !== undefined) options.distinct_id = original;
    return this.capture("$create_alias", { alias }, options);
  }

  /** A new anonymous visitor, with a new session. The device id and the opt-out stay, unless told otherwise. */
  reset(resetDeviceId = false): void {
    const { identity, session } = this.#started();
    const distinctId = uuidv7();
    const deviceId = resetDeviceId ? distinctId : identity.ids().deviceId;
    identity.setIds({ distinctId, deviceId, isIdentified: false });
    identity.clearProperties({ $last_reset: new Date(native.nowMs()).toISOString() });
    session.end();
  }

  /** Properties of every event from now on, in all tabs and later visits. */
  register(properties: Properties): void {
    const { identity, options } = this.#started();
    const clean = sanitize(properties, options.denied);
    identity.changeProperties((all) => Object.assign(all, clean));
  }

  /** As register, for those that are not set or have the value `defaultValue`. */
  register_once(properties: Properties, defaultValue: unknown = "None"): void {
    const { identity, options } = this.#started();
    const clean = sanitize(properties, options.denied);
    identity.changeProperties((all) => {
      for (const [key, value] of Object.entries(clean)) {
        if (all[key] === undefined || all[key] === defaultValue) all[key] = value;
      }
    });
  }

  unregister(name: string): void {
    this.#started().identity.changeProperties((all) => {
      delete all[name];
    });
  }

  get_distinct_id(): string {
    return this.#started().identity.ids().distinctId;
  }

  /** Starts a new session when it is time for one. */
  get_session_id(): string {
    return this.#started().session.touch().sessionId;
  }

  /** Of those given to register. */
  get_property(name: string): unknown {
    return this.#started().identity.properties()[name];
  }

  /** Nothing is captured any more, on later visits too. May be called before init. */
  opt_out_capturing(): void {
    this.#setOptedOut(true);
  }

  /** May be called before init. */
  opt_in_capturing(): void {
    this.#setOptedOut(false);
  }

  /** Before init: whether that was asked for in this page. */
  has_opted_out_capturing(): boolean {
    return this.#running?.identity.isOptedOut() ?? this.#optOutBeforeInit ?? false;
  }

  is_capturing(): boolean {
    return !this.has_opted_out_capturing();
  }

  /**
   * Sends what is queued; resolves when the server has answered for all of it. Rejects when it did not; what can be sent
   * again stays queued. With `"sendBeacon"` it resolves at once, and the events stay queued until a later answer.
   */
  flush(transport?: TransportName): Promise<void> {
    const { delivery } = this.#started();
    if (transport !== "sendBeacon") return delivery.flush();
    delivery.handOver(transport);
    return Promise.resolve();
  }

  counters(): Readonly<Counters> {
    return { ...this.#started().counters };
  }

  /** Stops capturing and sends what is queued, once; never rejects. `init` may follow. Nothing happens before init. */
  async shutdown(): Promise<void> {
    const running = this.#running;
    if (!running) return;
    this.#running = undefined;
    this.#optOutBeforeInit = undefined;
    running.stop();
    // What fails is on the device, for the next page.
    await running.delivery.flush().catch(() => undefined);
    running.delivery.stop();
  }

  #started(): Running {
    if (!this.#running) throw new Error("call init first");
    return this.#running;
  }

  #setOptedOut(isOut: boolean): void {
    if (this.#running) this.#running.identity.setOptedOut(isOut);
    else this.#optOutBeforeInit = isOut;
  }

  #watch({ delivery, identity, options, session }: Running): () => void {
    const listening = new AbortController();
    const { signal } = listening;
    const { autocapture, pageleaves, pageviews } = options;
    const unwatch = watchPages({
      pageviews,
      pageleaves,
      capture: (event, properties) => this.capture(event, properties),
      onLeave() {
        identity.keep();
        session.keep();
        delivery.setHidden(true);
        delivery.handOver("fetch");
      },
      onReturn() {
        delivery.setHidden(false);
        session.resume();
      },
    });
    if (typeof window !== "undefined") {
      window.addEventListener?.("online", () => delivery.wake(), { signal });
      window.addEventListener?.("storage", ({ key }) => identity.onStorage(key), { signal });
    }
    let stopAutocapture: (() => void) | undefined;
    if (autocapture && typeof document !== "undefined") {
      import("./autocapture.ts").then(
        ({ startAutocapture }) => {
          if (signal.aborted) return;
          stopAutocapture = startAutocapture(autocapture, (properties) =>
            this.capture("$autocapture", { ...pageProperties(), ...properties }),
          );
        },
        // The browser's console has the reason; everything else works without.
        () => undefined,
      );
    }
    // What earlier pages left behind.
    if (options.isStored) delivery.schedule();
    return () => {
      listening.abort();
      unwatch();
      stopAutocapture?.();
    };
  }
}

/** For code written for clickhouse-product-analytics. */
export { Millrace as ClickHouseProductAnalytics };

export function createClient(): Millrace {
  return new Millrace();
}

function assemble(options: Options): Running {
  const { apiHost, apiKey, isStored } = options;
  const target = `${apiHost}|${apiKey ?? ""}`;
  const shared = isStored ? { database: openDatabase(), storage: native.localStorage } : undefined;
  const counters = { captured: 0, sent: 0, queued: 0, overflow: 0, rejected: 0, filtered: 0, invalid: 0 };
  const { flushAt, flushIntervalMs, maxQueueSize, requestTimeoutMs: timeoutMs, transport } = options;
  const delivery = createDelivery({
    sender: createSender({ endpoint: `${apiHost}/batch/`, apiKey, timeoutMs, transport }),
    store: shared ? createQueueStore({ ...shared, target, maxRows: maxQueueSize }) : NO_STORE,
    lock: shared && { name: `millrace.send ${target}`, storage: shared.storage },
    flushAt,
    flushIntervalMs,
    maxQueueSize,
    counters,
  });
  const store = createKeyValue(isStored ? options.persistence : "none");
  const agreement = { database: shared?.database, waitFor: delivery.waitFor, replace: delivery.replace };
  const identity = createIdentity(store, agreement);
  const session = createSession(store, agreement, { timeoutMs: options.sessionTimeoutMs, isKept: isStored });
  return { options, identity, session, delivery, counters, stop: () => undefined };
}

/** Ready to use: `millrace.init({ apiHost })`. */
const millrace: Millrace = createClient();
export default millrace;
