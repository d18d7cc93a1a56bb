// The old routes of alerts: /alerts and /alerts/{id} (section 2 of pulse's API), in the README's form and in the code's.

import { BodyStalledError, BodyTooLargeError, readBody } from "#lib/http/body.ts";
import { type HttpRequest, type HttpResponse, isCallerGone } from "#lib/http/message.ts";
import { RETRY_AFTER_SECONDS } from "#lib/http/retry-after.ts";
import type { Logger } from "#lib/process/log.ts";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import type { Access } from "../access.ts";
import { FOREIGN_PAGE, sendJson } from "../answers.ts";
import { cleanPath, pathOf, queryOf, segmentsOf } from "../query-string.ts";
import { FAILED } from "../refusals.ts";
import { type Compat, compatOf } from "../stat-request.ts";
import type { AlertDefinition } from "./alert.ts";
import { checkDefinition, type DefinitionRules, type FieldFault } from "./parse.ts";
import { readAlertBody } from "./parse-body.ts";
import { type AlertStore, AlertStoreError, type StoredAlert } from "./store.ts";
import { WARNING_HEADER } from "./webhook-address.ts";

export interface AlertRoutesOptions {
  store: AlertStore;
  rules: DefinitionRules;
  /** What is to be said of an alert's address, although the alert is taken. */
  warningOf(post: string): Promise<string | undefined>;
  access: Pick<Access, "allowOrigin" | "isForeign">;
  /** Of requests without ?compat=. */
  compat: Compat;
  logger: Logger;
}

/** Answers and returns true if the request is one for these routes; leaves any other untouched, also other methods. */
export type AlertRoutes = (request: HttpRequest, response: HttpResponse) => boolean;

interface Answer {
  status: number;
  body: unknown;
  headers?: Record<string, string>;
}

interface Route {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** The segment after /alerts/. */
  id: string | undefined;
  form: Compat;
}

const BODY_BYTES_MAX = 1_048_576;
const BAD_JSON = "Bad JSON syntax received in body";
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly answer: Answer;

  constructor(status: number, message: string, more: Record<string, unknown> = {}) {
    super(message);
    this.answer = { status, body: { error: message, ...more } };
  }
}

/** Asked after the token and OPTIONS. */
export function createAlertRoutes({
  store,
  rules,
  warningOf,
  access,
  compat,
  logger,
}: AlertRoutesOptions): AlertRoutes {
  async function write(request: HttpRequest, { method, id: segment, form }: Route): Promise<StoredAlert> {
    const { id, definition } = await readDefinition(request, form, rules);
    // The original took no id, and made a new alert for a PUT as well.
    if (method === "POST" || form === "code") return store.create(definition);
    // Who names an alert in the path means that one; any other segment is, as ever, not looked at.
    const known = id || (segment !== undefined && UUID.test(segment) ? segment : "");
    return known === "" ? store.create(definition) : store.update(known, definition);
  }

  async function answer(request: HttpRequest, route: Route): Promise<Answer> {
    const { method, id, form } = route;
    if (method === "POST" || method === "PUT") {
      const alert = await write(request, route);
      const warning = await warningOf(alert.post);
      const body = { ...alertObject(alert, form), ...(form === "readme" && { warning }) };
      return { status: 200, body, ...(warning !== undefined && { headers: { [WARNING_HEADER]: warning } }) };
    }
    if (id === undefined) return { status: 200, body: (await store.list()).map((alert) => alertObject(alert, form)) };
    if (method === "DELETE") {
      await store.delete(id);
      return { status: 200, body: { msg: "Success" } };
    }
    const alert = await store.get(id);
    if (!alert) throw new RefusedError(404, "Not Found");
    return { status: 200, body: alertObject(alert, form) };
  }

  function refusal(error: unknown): Answer {
    if (error instanceof RefusedError) return error.answer;
    if (error instanceof BodyTooLargeError) return { status: 413, body: { error: error.message } };
    if (error instanceof BodyStalledError) return { status: 408, body: { error: error.message } };
    if (error instanceof AlertStoreError) {
      if (error.kind === "not_found") return { status: 404, body: { error: "Not Found" } };
      return { status: 409, body: { error: error.message } };
    }
    if (error instanceof WarehouseError && error.kind === "transient") {
      const message = "ClickHouse cannot be used now; a change may have been stored, so look at GET /alerts first";
      return { status: 503, body: { error: message }, headers: { "retry-after": String(RETRY_AFTER_SECONDS.alert) } };
    }
    logger.error({ err: error }, "a request for alerts could not be answered");
    return { status: 500, body: { error: FAILED } };
  }

  return (request, response) => {
    const route = routeOf(request, compat);
    if (!route) return false;
    access.allowOrigin(response);
    // To read them is no change, but the URLs that they post to are secrets.
    if (access.isForeign(request)) {
      sendJson(response, 403, FOREIGN_PAGE);
      return true;
    }
    void answer(request, route)
      .catch((error: unknown) => (isCallerGone(response) ? undefined : refusal(error)))
      .then((answered) => answered && sendJson(response, answered.status, answered.body, answered.headers));
    return true;
  };
}

/** Patterns are prefixes: /alertsXYZ is /alerts, and what follows the id is not looked at. */
function routeOf(request: HttpRequest, compat: Compat): Route | undefined {
  const path = pathOf(request);
  if (path === undefined || cleanPath(path) !== path) return undefined;
  const [first = "", second = ""] = segmentsOf(path);
  if (!first.startsWith("alerts")) return undefined;
  const id = first === "alerts" && second !== "" ? second : undefined;
  const method = (["GET", "POST", "PUT", "DELETE"] as const).find((each) => each === request.method);
  if (!method || (method === "DELETE" && id === undefined)) return undefined;
  return { method, id, form: compatOf(queryOf(request), compat) };
}

async function readDefinition(
  request: HttpRequest,
  form: Compat,
  rules: DefinitionRules,
): Promise<{ id: string; definition: AlertDefinition }> {
  const body = readAlertBody(await readBody(request, { maxBytes: BODY_BYTES_MAX }), form);
  if (!body) throw refused(BAD_JSON, [], form);
  const checked = checkDefinition(body.input, rules);
  const wrongTypes = new Set(body.faults.map(({ field }) => field));
  const others = "faults" in checked ? checked.faults.filter(({ field }) => !wrongTypes.has(field)) : [];
  const faults = [...body.faults, ...others];
  if (body.faults.length > 0) throw refused(BAD_JSON, faults, form);
  if (faults.some(({ kind }) => kind === "missing")) throw refused("Missing value in payload", faults, form);
  if ("definition" in checked) return { id: body.id, definition: checked.definition };
  const reasons = faults.map(({ field, message }) => `${field}: ${message}`);
  throw refused(`Failed to create task - ${reasons.join("; ")}`, faults, form);
}

/** The text is the original's; what is wrong with each field stands beside it, except in the code's form. */
function refused(error: string, faults: readonly FieldFault[], form: Compat): RefusedError {
  if (form === "code" || faults.length === 0) return new RefusedError(400, error);
  return new RefusedError(400, error, { faults: faults.map(({ field, message }) => ({ field, message })) });
}

/** In the order in which the original answered its keys. */
function alertObject(alert: StoredAlert, form: Compat): Record<string, unknown> {
  const { id, tags, metric, level, operatorText, threshold, thresholdText, durationText, post, groupBy, noData } =
    alert;
  const isCode = form === "code";
  return {
    id,
    ...(Object.keys(tags).length === 0 ? {} : { tags }),
    metric,
    level,
    operator: operatorText,
    threshold: thresholdText ?? (isCode ? String(threshold) : threshold),
    duration: durationText,
    post,
    ...(isCode || groupBy.length === 0 ? {} : { group_by: groupBy }),
    ...(isCode || noData === "keep" ? {} : { no_data: noData }),
  };
}
