// What operations of the OpenAPI document are made of.
import type { SCHEMAS } from "./openapi-schemas.ts";

type SchemaName = keyof typeof SCHEMAS;

const json = (schema: SchemaName) => ({
  "application/json": { schema: { $ref: `#/components/schemas/${schema}` } },
});
export const body = (schema: SchemaName) => ({ required: true, content: json(schema) });
export const answer = (description: string, schema: SchemaName) => ({ description, content: json(schema) });
/** An answer that says when to retry. */
export const later = (description: string, schema: SchemaName) => ({
  ...answer(description, schema),
  headers: { "Retry-After": { description: "Seconds.", schema: { type: "integer", minimum: 0 } } },
});

export const OPEN: readonly object[] = [];
/** Where no key is set at all, none is asked for. */
export const ANY_KEY = [{ bearer: [] }, { basic: [] }, { apiKey: [] }, {}];

export const TOO_FAST = "More events than RATE_LIMIT_EVENTS a second.";
export const AWAY = "The event log is unavailable, or too many bytes are in flight.";
export const NOT_SUPPORTED = "Another content type or encoding; gzip, deflate, br and zstd are known.";

/** The wire's first path has the operation, the others refer to it. */
export function samePath(paths: readonly string[], item: object): Record<string, object> {
  const [first = "", ...others] = paths;
  const pointer = `#/paths/${first.replaceAll("~", "~0").replaceAll("/", "~1")}`;
  return { [first]: item, ...Object.fromEntries(others.map((path) => [path, { $ref: pointer }])) };
}
