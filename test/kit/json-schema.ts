// JSON Schema as far as our documents use it. A keyword that is not known here throws: it would be checked by nobody.

export type Schema = { readonly [keyword: string]: unknown };

const ANNOTATIONS = new Set(["description", "format", "contentEncoding", "$defs"]);

/** What is wrong with the value, each with its path; empty when nothing is. `root` is what `#/…` references are in. */
export function schemaFaults(value: unknown, schema: Schema, root: object, path = "$"): string[] {
  return Object.entries(schema).flatMap(([keyword, rule]) => {
    if (ANNOTATIONS.has(keyword)) return [];
    const check = CHECKS[keyword];
    if (!check) throw new Error(`unknown keyword ${keyword} at ${path}`);
    return check({ value, rule, schema, root, path });
  });
}

/** Where a local reference points. Throws when it points to nothing. */
export function resolveRef(ref: unknown, root: object): Schema {
  const names = String(ref)
    .replace(/^#\//, "")
    .split("/")
    .map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  const found = names.reduce<unknown>((at, name) => (at as Schema | undefined)?.[name], root);
  if (found === undefined || !String(ref).startsWith("#/")) throw new Error(`nothing at ${ref}`);
  return found as Schema;
}

interface Question {
  value: unknown;
  rule: unknown;
  schema: Schema;
  root: object;
  path: string;
}

type Check = (question: Question) => string[];

const CHECKS: Record<string, Check> = {
  $ref: ({ value, rule, root, path }) => schemaFaults(value, resolveRef(rule, root), root, path),
  type: ({ value, rule, path }) =>
    expected(typeOf(value) === rule || (rule === "number" && typeOf(value) === "integer"), rule, value, path),
  const: ({ value, rule, path }) => expected(value === rule, rule, value, path),
  enum: ({ value, rule, path }) => expected((rule as unknown[]).includes(value), rule, value, path),
  pattern: ({ value, rule, path }) => expected(new RegExp(String(rule)).test(String(value)), rule, value, path),
  minLength: ({ value, rule, path }) =>
    expected(typeof value !== "string" || value.length >= Number(rule), rule, value, path),
  minimum: ({ value, rule, path }) => expected(typeof value !== "number" || value >= Number(rule), rule, value, path),
  minItems: ({ value, rule, path }) =>
    expected(!Array.isArray(value) || value.length >= Number(rule), rule, value, path),
  required: ({ value, rule, path }) =>
    (rule as string[]).filter((key) => !Object.hasOwn(objectOf(value), key)).map((key) => `${path}.${key}: is missing`),
  properties: ({ value, rule, root, path }) =>
    Object.entries(rule as Record<string, Schema>).flatMap(([key, schema]) => {
      const object = objectOf(value);
      return Object.hasOwn(object, key) ? schemaFaults(object[key], schema, root, `${path}.${key}`) : [];
    }),
  additionalProperties: ({ value, rule, schema, root, path }) => {
    const known = objectOf(schema.properties);
    const others = Object.entries(objectOf(value)).filter(([key]) => !Object.hasOwn(known, key));
    if (rule === false) return others.map(([key]) => `${path}.${key}: is not known`);
    return others.flatMap(([key, other]) => schemaFaults(other, rule as Schema, root, `${path}.${key}`));
  },
  propertyNames: ({ value, rule, root, path }) =>
    Object.keys(objectOf(value)).flatMap((key) => schemaFaults(key, rule as Schema, root, `${path} (name)`)),
  items: ({ value, rule, root, path }) =>
    Array.isArray(value) ? value.flatMap((item, at) => schemaFaults(item, rule as Schema, root, `${path}[${at}]`)) : [],
};

function expected(isRight: boolean, rule: unknown, value: unknown, path: string): string[] {
  return isRight ? [] : [`${path}: ${JSON.stringify(value)?.slice(0, 100)} where ${JSON.stringify(rule)} is expected`];
}

function objectOf(value: unknown): Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Schema) : {};
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}
