// One request: a batch of events as its body, by fetch or as the page closes.
import { native } from "./native.ts";
import type { Row } from "./queue-store.ts";
import { beacon, post } from "./transport.ts";
import type { Transport, TransportName, TransportPayload } from "./types.ts";
import { timeOf } from "./uuid.ts";

/** Below the hour for which the server knows an id by itself (ID_WINDOW). */
const KNOWN_MS_MAX = 50 * 60_000;

export interface SenderOptions {
  endpoint: string;
  apiKey: string | undefined;
  timeoutMs: number;
  transport: Transport | undefined;
}

/** One request. Both ways resolve with how many events the server counted as dropped. */
export interface Sender {
  send(rows: readonly Row[]): Promise<number>;
  /**
   * By a request that outlives the page. Undefined: the browser did not take it. Resolves with undefined when it did and
   * no answer can be seen.
   */
  sendClosing(rows: readonly Row[], by: TransportName): Promise<number | undefined> | undefined;
}

export function createSender({ endpoint, apiKey, timeoutMs, transport }: SenderOptions): Sender {
  const key = apiKey ? `"api_key":${native.stringify(apiKey)},` : "";

  /** Each event is text already; what is sent again is not made again. */
  function bodyOf(rows: readonly Row[]): string {
    const nowMs = native.nowMs();
    // Of an older event nobody here can know whether an earlier page got it there. A clock that was set back is no younger.
    const isOld = rows.some(({ uuid }) => Math.abs(nowMs - timeOf(uuid)) > KNOWN_MS_MAX);
    const check = isOld ? '"check_stored":true,' : "";
    return `{${key}"sent_at":"${new Date(nowMs).toISOString()}",${check}"batch":[${rows.map(({ json }) => json).join(",")}]}`;
  }

  function payloadOf(rows: readonly Row[]): TransportPayload {
    return native.parse(bodyOf(rows)) as TransportPayload;
  }

  /** Async, so that one that throws at once rejects like any other. */
  async function sendClosingBy(own: Transport, rows: readonly Row[]): Promise<number> {
    await own(endpoint, payloadOf(rows), { timeoutMs, transport: "sendBeacon", compression: false });
    return 0;
  }

  return {
    async send(rows) {
      if (!transport) return post(endpoint, bodyOf(rows), { timeoutMs });
      await transport(endpoint, payloadOf(rows), { timeoutMs, transport: "fetch", compression: true });
      return 0;
    },
    sendClosing(rows, by) {
      if (transport) return sendClosingBy(transport, rows);
      const json = bodyOf(rows);
      if ((by === "sendBeacon" || !native.hasKeepalive) && beacon(endpoint, json)) return Promise.resolve(undefined);
      return native.hasKeepalive ? post(endpoint, json, { timeoutMs, keepalive: true }) : undefined;
    },
  };
}
