// What a wire over plain HTTP is: it parses what the edge has let in, and says how answers and refusals look.
import type { CorsRules } from "#lib/http/cors.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Refused } from "./refusals.ts";

export interface Target {
  /** Decoded, without the query. */
  path: string;
  /** Between ? and #, as it came. */
  query: string;
}

export interface Arrival extends Target {
  traceparent: string | undefined;
}

export interface Wire {
  /** As metrics and limits call it. */
  readonly dialect: string;
  /** What browsers are told; absent: nothing. */
  readonly cors?: CorsRules;
  /** Resolves with the body of a 200. Throws Refused. */
  answer(request: HttpRequest, arrival: Arrival): Promise<unknown>;
  refusalBody(refusal: Refused): unknown;
  /** Whether the connection ends with the refusal (HTTP/1.1). */
  closesAfter?(refusal: Refused): boolean;
}
