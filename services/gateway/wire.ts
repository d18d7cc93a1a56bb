// What a wire over plain HTTP is: it parses what the edge has let in, and says how answers and refusals look. Its paths
// and rules are in wire-table.ts.
import type { OutgoingHttpHeaders } from "node:http";
import type { HttpRequest } from "#lib/http/message.ts";
import type { Refused } from "./refusals.ts";

export interface Target {
  /** Decoded, without the query. */
  path: string;
  /** Between ? and #, as it came. */
  query: string;
}

export interface Arrival extends Target {
  /** What stands in the path for its parts in braces (wire-table.ts). */
  parts: readonly string[];
  traceparent: string | undefined;
}

/** An answer that is not a 200 of JSON alone. */
export class Reply {
  readonly status: number;
  /** JSON, or, where the headers name a content type, the text or bytes themselves; undefined: no body. */
  readonly body: unknown;
  readonly headers: OutgoingHttpHeaders;

  constructor(status: number, body: unknown, headers: OutgoingHttpHeaders = {}) {
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

export interface Wire {
  /** Resolves with the body of a 200, or a `Reply`. Throws Refused. */
  answer(request: HttpRequest, arrival: Arrival): Promise<unknown>;
  refusalBody(refusal: Refused): unknown;
  /** Where the status is not that of the table of refusals. */
  refusalHead?(refusal: Refused): { status: number; headers: Record<string, string> };
  /** Whether the connection ends with the refusal (HTTP/1.1). */
  closesAfter?(refusal: Refused): boolean;
}
