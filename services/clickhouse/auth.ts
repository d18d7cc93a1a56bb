// Who may talk to the endpoint. A database on localhost is in reach of every web page its user opens, so a request that a
// browser made for a page, or under a name that is not ours, is refused before anything else is looked at.
import type { IncomingHttpHeaders } from "node:http";
import { basicOf, createTokenCheck, headerText } from "#lib/http/credential.ts";
import { bareName } from "#lib/http/loopback.ts";
import { endpointError } from "./errors.ts";

export interface AccessOptions {
  host: string;
  user: string;
  password: string;
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "::1"]);
const ANY_ADDRESS = new Set(["0.0.0.0", "::", ""]);

/** The reason why these options must not be started with, and what to do about it; undefined when they may. */
export function bindRefusal({ host, password }: AccessOptions): string | undefined {
  if (password !== "" || LOOPBACK.has(bareName(host))) return undefined;
  return `ClickHouse endpoint: refusing to listen on ${host} without a password. Set CLICKHOUSE_PASSWORD, or HOST=127.0.0.1.`;
}

/** Throws a ClickHouseError (403) for a request that came from a web page or names another host. */
export function assertLocalRequest(headers: IncomingHttpHeaders, host: string): void {
  const site = headers["sec-fetch-site"];
  if (headers.origin !== undefined || (site !== undefined && site !== "none" && site !== "same-origin")) {
    throw endpointError(497, "Requests from web pages are refused.");
  }
  // On every address there is no one name to expect; the password, which is then required, stands in its place.
  if (ANY_ADDRESS.has(bareName(host))) return;
  const name = bareName(headers.host ?? "");
  if (!LOOPBACK.has(name) && name !== bareName(host)) {
    throw endpointError(497, `The Host header names ${name || "nothing"}, which this endpoint does not go by.`);
  }
}

/** Throws a ClickHouseError (401 without credentials, 403 with wrong ones). */
export function assertCredentials(headers: IncomingHttpHeaders, query: URLSearchParams, expected: AccessOptions): void {
  const given = credentials(headers, query);
  const [user, password] = given ?? ["default", ""];
  // As at a ClickHouse server: where no password is set, any is taken. Some drivers send the word null for none.
  const rightPassword = expected.password === "" || same(password, expected.password);
  if (same(user, expected.user) && rightPassword) return;
  if (given === undefined) throw endpointError(194, "Password required for this endpoint.");
  throw endpointError(516, "Authentication failed: password is incorrect, or there is no user with such name.");
}

function credentials(headers: IncomingHttpHeaders, query: URLSearchParams): [string, string] | undefined {
  const [user, key] = [headers["x-clickhouse-user"], headers["x-clickhouse-key"]];
  if (user !== undefined || key !== undefined) return [headerText(user ?? "default"), headerText(key)];
  const basic = basicOf(headers);
  if (basic) return [basic.user, basic.password];
  if (headers.authorization !== undefined) return ["", ""];
  if (query.has("user") || query.has("password")) return [query.get("user") ?? "default", query.get("password") ?? ""];
  return undefined;
}

function same(left: string, right: string): boolean {
  return createTokenCheck(right)(left);
}
