// Requests of product-analytics clients, as tests of the batch dialect send them.
import type { OutgoingHttpHeaders } from "node:http";
import { type Answer, callH1 } from "./http-calls.ts";

export const KEY = "pub-key";
export const SECRET = "sec-key";
export const ORIGIN = "https://app.example";
export const JSON_TYPE = { "content-type": "application/json" };
export const EVENT = { event: "e", distinct_id: "d" };

/** POST /batch/ of JSON with a public key in the body, unless `envelope` says otherwise. */
export function postBatch(
  port: number,
  batch: readonly unknown[],
  envelope: Record<string, unknown> = {},
  headers: OutgoingHttpHeaders = {},
): Promise<Answer> {
  const body = JSON.stringify({ api_key: KEY, batch, ...envelope });
  return callH1(port, "/batch/", { headers: { ...JSON_TYPE, ...headers }, body });
}

export function jsonOf(answer: Answer): unknown {
  return JSON.parse(answer.text);
}
