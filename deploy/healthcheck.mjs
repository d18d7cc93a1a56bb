// HEALTHCHECK of the image: exit code 0 when the container's service answers /readyz with 200, else 1 and the reason.
// Which service it is says the command line of process 1, which port its own setting. Another address can be given:
// node deploy/healthcheck.mjs http://127.0.0.1:8082/readyz
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { text } from "node:stream/consumers";

const PORTS = {
  gateway: ["PORT", 8080],
  stats: ["STATS_PORT", 8081],
  relay: ["RELAY_HTTP_PORT", 8082],
  consumer: ["CONSUMER_PORT", 8083],
};
/** The others have health on a plain port. */
const WITH_TLS = ["gateway", "stats"];
const TIMEOUT_MS = 4_000;

function ownUrl() {
  const words = readFileSync("/proc/1/cmdline", "utf8").split("\0");
  const service = Object.keys(PORTS).find((name) => words.includes(name));
  if (!service) throw new Error(`process 1 is not one of ${Object.keys(PORTS).join(", ")}`);
  const [setting, usual] = PORTS[service];
  const scheme = WITH_TLS.includes(service) && process.env.TLS_CERT ? "https" : "http";
  return `${scheme}://${ownHost()}:${process.env[setting] || usual}/readyz`;
}

/** Where HOST says that it listens; of every address, the loopback one. */
function ownHost() {
  const host = process.env.HOST || "::";
  // The second is every address of IPv4 too.
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}

async function ask(url) {
  const { promise, resolve, reject } = Promise.withResolvers();
  // The certificate names the host that callers know, which is not this address.
  const options = { rejectUnauthorized: false, signal: AbortSignal.timeout(TIMEOUT_MS) };
  (url.startsWith("https:") ? https : http).get(url, options, resolve).once("error", reject);
  const response = await promise;
  return { status: response.statusCode, body: await text(response) };
}

try {
  const { status, body } = await ask(process.argv[2] ?? ownUrl());
  if (status !== 200) throw new Error(`${status} ${body}`);
} catch (error) {
  process.stderr.write(`${error.message}${error.cause ? `: ${error.cause.message}` : ""}\n`);
  process.exitCode = 1;
}
