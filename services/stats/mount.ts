// What is served on the stats port, piece by piece.
import type { HttpRequest, HttpResponse } from "#lib/http/message.ts";

/** Answers and returns true if the request is one for it; leaves any other untouched. */
export type Mounted = (request: HttpRequest, response: HttpResponse) => boolean;

export interface Mounts {
  /** Asked after the token: history, alerts, RPC. */
  guarded: readonly Mounted[];
  /** Asked before it, because they have rules of their own about who may call. */
  open: readonly Mounted[];
}
