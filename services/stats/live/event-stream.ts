// Server-sent events: how an answer of them begins, and waits for its reader.
import type { HttpResponse } from "#lib/http/message.ts";

export const EVENT_STREAM_HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store",
  // Proxies that collect an answer before they pass it on would make it anything but live.
  "x-accel-buffering": "no",
} as const;

/** Says when a browser connects again, which it does by itself. */
export const RECONNECT_LINE = "retry: 2000\n\n";

/** Resolves when there is room again, or nobody to send to. */
export async function drained(response: HttpResponse): Promise<void> {
  if (response.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => resolve();
  response.once("drain", done).once("close", done);
  await promise;
  response.off("drain", done).off("close", done);
}
