// The client without a browser: a transport of the caller's takes the events, and nothing is stored.
import { afterEach, describe, expect, it } from "vitest";
import { createClient, type InitOptions, type Millrace, type TransportPayload } from "./index.ts";

const clients: Millrace[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) await client.shutdown();
});

function start(options: Partial<InitOptions> = {}) {
  const payloads: TransportPayload[] = [];
  const client = createClient();
  clients.push(client);
  client.init({
    apiHost: "http://gateway.example:8080///",
    apiKey: "KEY",
    capturePageview: false,
    persistence: "memory",
    flushAt: 1000,
    transport: async (_url, payload) => {
      payloads.push(payload);
    },
    ...options,
  });
  const events = () => payloads.flatMap(({ batch }) => batch);
  return { client, payloads, events };
}

const failing = (status?: number, retryAfterMs?: number) =>
  Object.assign(new Error(status ? `HTTP ${status}` : "network unavailable"), { status, retryAfterMs });

describe("init", () => {
  it("asks for apiHost, ignores options in snake_case, and changes nothing when called twice", async () => {
    expect(() => createClient().init({} as InitOptions)).toThrow("apiHost is required");
    expect(() => createClient().init({ api_host: "http://a" } as unknown as InitOptions)).toThrow(
      "apiHost is required",
    );
    const { client, payloads } = start();
    client.init("OTHER", { apiHost: "http://elsewhere" });
    client.capture("a");
    await client.flush();
    expect(payloads).toMatchObject([{ api_key: "KEY", sent_at: expect.any(String) }]);
  });

  it("posts to /batch/ whatever slashes the host ends with", async () => {
    const urls: string[] = [];
    const { client } = start({
      transport: async (url) => {
        urls.push(url);
      },
    });
    client.capture("a");
    await client.flush();
    expect(urls).toEqual(["http://gateway.example:8080/batch/"]);
  });

  it("is needed before anything else but opting out", () => {
    const client = createClient();
    expect(() => client.capture("a")).toThrow("init");
    expect(() => client.get_distinct_id()).toThrow("init");
    expect(client.is_capturing()).toBe(true);
    client.opt_out_capturing();
    expect(client.is_capturing()).toBe(false);
  });
});

describe("identity", () => {
  it("identifies an anonymous visitor once, and sets properties after that", async () => {
    const { client, events } = start();
    const anonymous = client.get_distinct_id();
    client.identify("u1", { a: 1 });
    client.identify("u1");
    client.identify("u1", { b: 2 }, { c: 3 });
    client.identify("u2");
    await client.flush();
    expect(events().map(({ event, properties }) => [event, properties.distinct_id])).toEqual([
      ["$identify", "u1"],
      ["$set", "u1"],
    ]);
    const identified = { $anon_distinct_id: anonymous, $device_id: anonymous, $set: { a: 1 }, $set_once: {} };
    expect(events()[0]?.properties).toMatchObject({ ...identified, $user_id: "u1", $had_persisted_distinct_id: false });
    expect(client.get_distinct_id()).toBe("u2");
  });

  it.each(["", "  ", "null", "undefined", "true", "False", "guest", {}, Number.NaN, 0])("refuses %j as an id", (id) => {
    const { client } = start();
    expect(() => client.identify(id as string)).toThrow("no distinct id");
    expect(() => client.identify(undefined)).toThrow("no distinct id");
  });

  it("changes with an opt-out too, of which no event tells", async () => {
    const { client, events } = start();
    client.opt_out_capturing();
    client.identify("u1");
    expect(client.get_distinct_id()).toBe("u1");
    await client.flush();
    expect(events()).toEqual([]);
  });

  it("starts anew with reset: ids, session and properties, but for device and opt-out", async () => {
    const { client, events } = start();
    const [device, session] = [client.get_distinct_id(), client.get_session_id()];
    client.register({ plan: "pro" });
    client.identify("u1");
    client.opt_out_capturing();
    client.reset();
    expect([client.get_distinct_id() === device, client.get_session_id() === session]).toEqual([false, false]);
    expect([client.get_property("plan"), client.get_property("$last_reset")]).toEqual([undefined, expect.any(String)]);
    expect(client.has_opted_out_capturing()).toBe(true);
    client.opt_in_capturing();
    client.capture("after");
    client.reset(true);
    client.capture("new device");
    await client.flush();
    const [, after, last] = events();
    expect(after?.properties.$device_id).toBe(device);
    expect(last?.properties.$device_id).toBe(last?.properties.distinct_id);
  });

  it("registers, once or not, and unregisters", async () => {
    const { client, events } = start();
    client.register({ a: 1, b: "None" });
    client.register_once({ a: 2, b: 2, c: 3 });
    client.unregister("c");
    client.capture("e", { a: "own" });
    await client.flush();
    expect(events()[0]?.properties).toMatchObject({ a: "own", b: 2 });
    expect(events()[0]?.properties).not.toHaveProperty("c");
  });
});

describe("capture", () => {
  it("returns what it queued; nothing for what no server would take", () => {
    const { client } = start();
    expect(client.capture("e")).toMatchObject({ event: "e", uuid: expect.stringMatching(/^[0-9a-f-]{14}7/) });
    for (const name of ["", "  ", "x".repeat(201), undefined as unknown as string]) {
      expect(client.capture(name)).toBeUndefined();
    }
    expect(client.capture("e", {}, { distinct_id: "x".repeat(1025) })).toBeUndefined();
    expect(client.capture("e", {}, { timestamp: new Date(Number.NaN) })).toBeUndefined();
    expect(client.counters()).toMatchObject({ captured: 7, invalid: 6, queued: 1 });
  });

  it("loses one value to a getter that throws, and never throws for what plain JavaScript passes", () => {
    const { client } = start({ propertyDenylist: "secret" as unknown as string[] });
    const bad = {
      get broken() {
        throw new Error("a getter");
      },
      fine: 1,
      secret: 2,
    };
    const event = client.capture("e", bad as Record<string, unknown>);
    expect(event?.properties).toMatchObject({ broken: "[Unreadable]", fine: 1 });
    expect(event?.properties).not.toHaveProperty("secret");
    const nameless = new Proxy({}, { ownKeys: () => [][0] as never });
    expect(client.capture("e", nameless)?.event).toBe("e");
    expect(client.capture("e", null as unknown as undefined)?.event).toBe("e");
    const at = 1_700_000_000_000;
    for (const timestamp of [at, new Date(at).toISOString()] as unknown as Date[]) {
      expect(client.capture("e", {}, { timestamp })?.timestamp).toBe("2023-11-14T22:13:20.000Z");
    }
  });

  it("runs beforeSend in order, drops what it drops, and keeps the id and the denylist", async () => {
    const { client, events } = start({
      propertyDenylist: ["secret"],
      beforeSend: [
        (event) => (event.event === "no" ? null : { ...event, uuid: "mine" }),
        (event) => ({ ...event, properties: { ...event.properties, secret: 1, added: { secret: 2 } } }),
        (event) => {
          if (event.event === "fault") throw new Error("in the filter");
          return event;
        },
      ],
    });
    const event = client.capture("yes");
    client.capture("no");
    client.capture("fault");
    await client.flush();
    expect(events()).toMatchObject([{ uuid: event?.uuid, event: "yes", properties: { added: {} } }]);
    expect(JSON.stringify(events())).not.toContain("secret");
    expect(client.counters()).toMatchObject({ captured: 3, filtered: 2, sent: 1 });
  });
});

it.each(["2023-11-14T22:13:20Z", "Nov 14, 2023 22:13:20 UTC", "2023-11-14T23:13:20.0+01:00"])(
  "sends the time %j of beforeSend as one that the server reads",
  async (timestamp) => {
    const { client, events } = start({ beforeSend: (event) => ({ ...event, timestamp }) });
    client.capture("e");
    await client.flush();
    expect(events()).toMatchObject([{ timestamp: "2023-11-14T22:13:20.000Z" }]);
  },
);

describe("flush", () => {
  it("rejects when the server is away, and sends the same ids again", async () => {
    let isAway = true;
    const tries: string[][] = [];
    const { client } = start({
      transport: async (_url, { batch }) => {
        tries.push(batch.map(({ uuid }) => uuid));
        if (isAway) throw failing();
      },
    });
    client.capture("a");
    await expect(client.flush()).rejects.toThrow("network unavailable");
    client.capture("b");
    await expect(client.flush()).rejects.toThrow("network unavailable");
    isAway = false;
    await client.flush();
    expect(tries[2]).toEqual(tries[1]);
    expect(tries[1]?.slice(0, 1)).toEqual(tries[0]);
    expect(client.counters()).toMatchObject({ sent: 2, queued: 0 });
  });

  it.each([
    [
      "throws at once",
      () => {
        throw failing();
      },
    ],
    ["returns nothing", () => undefined],
  ])("a transport that %s does not break a closing page", async (_what, transport) => {
    const { client } = start({ transport: transport as unknown as () => Promise<void> });
    client.capture("a");
    await client.flush("sendBeacon");
    expect(client.counters().captured).toBe(1);
  });

  it("invalid times count as not given: a server that is away is not asked without a pause", async () => {
    let tries = 0;
    const { client } = start({
      flushIntervalMs: Number.NaN,
      requestTimeoutMs: Number.POSITIVE_INFINITY,
      transport: async (_url, _payload, { timeoutMs }) => {
        tries++;
        // A timer takes no more for no time at all.
        expect(timeoutMs).toBeLessThan(2 ** 31);
        throw failing();
      },
    });
    client.capture("a");
    await expect(client.flush()).rejects.toThrow("network unavailable");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(tries).toBe(1);
  });

  it("keeps the other half of a batch when one meets an error", async () => {
    const answers = [413, 503];
    const accepted: string[] = [];
    const { client } = start({
      transport: async (_url, { batch }) => {
        const status = answers.shift();
        if (status) throw failing(status);
        accepted.push(...batch.map(({ event }) => event));
      },
    });
    for (const name of ["e1", "e2", "e3", "e4"]) client.capture(name);
    await expect(client.flush()).rejects.toThrow("HTTP 503");
    await client.flush();
    expect(accepted).toEqual(["e1", "e2", "e3", "e4"]);
  });

  it.each([400, 413, 422])("drops an event that the server finds fault with by a %d, and no other", async (status) => {
    const accepted: string[] = [];
    const { client } = start({
      transport: async (_url, { batch }) => {
        if (batch.some(({ event }) => event === "bad")) throw failing(status);
        accepted.push(...batch.map(({ event }) => event));
      },
    });
    for (const name of ["a", "bad", "b"]) client.capture(name);
    await expect(client.flush()).rejects.toThrow(`HTTP ${status}`);
    expect(accepted).toEqual(["a", "b"]);
    expect(client.counters()).toMatchObject({ rejected: 1, queued: 0, sent: 2 });
  });

  const SPOKEN_OF = new Set([400, 413, 422]);
  const others = Array.from({ length: 52 }, (_, i) => 400 + i).filter((status) => !SPOKEN_OF.has(status));
  it.each(others)("holds what was answered %d, which says nothing about the events", async (status) => {
    const answers = [status, status];
    const accepted: string[] = [];
    const { client } = start({
      transport: async (_url, { batch }) => {
        const answer = answers.shift();
        if (answer) throw failing(answer);
        accepted.push(...batch.map(({ event }) => event));
      },
    });
    client.capture("a");
    client.capture("b");
    await expect(client.flush()).rejects.toThrow(`HTTP ${status}`);
    await expect(client.flush()).rejects.toThrow(`HTTP ${status}`);
    expect(client.counters()).toMatchObject({ rejected: 0, queued: 2 });
    await client.flush();
    expect(accepted).toEqual(["a", "b"]);
  });

  it("keeps the newest of what is too much, in number and in size", async () => {
    const { client, events } = start({ maxQueueSize: 3 });
    for (let n = 0; n < 5; n++) client.capture("n", { n });
    await client.flush();
    expect(events().map(({ properties }) => properties.n)).toEqual([2, 3, 4]);
    const { client: other } = start();
    for (let n = 0; n < 100; n++) other.capture("big", { text: "x".repeat(60_000) });
    expect(other.counters().overflow).toBeGreaterThan(30);
    expect(other.counters().queued + other.counters().overflow).toBe(100);
  });

  it("covers what was captured while it was under way", async () => {
    const release = Promise.withResolvers<void>();
    const accepted: string[] = [];
    const { client } = start({
      transport: async (_url, { batch }) => {
        await release.promise;
        accepted.push(...batch.map(({ event }) => event));
      },
    });
    client.capture("first");
    const one = client.flush();
    client.capture("second");
    const two = client.flush();
    release.resolve();
    await Promise.all([one, two]);
    expect(accepted).toEqual(["first", "second"]);
  });
});
