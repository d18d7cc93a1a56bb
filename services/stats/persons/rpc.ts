// PersonService over Connect, gRPC and gRPC-Web. It has a handler of its own, beside that of the other services of the
// port, because what opens those (STATS_TOKEN, or nothing on loopback) must not delete anybody.
import { Code, ConnectError } from "@connectrpc/connect";
import { createTokenCheck, credentialsOf } from "#lib/http/credential.ts";
import type { HttpRequest } from "#lib/http/message.ts";
import { createRpcHandler } from "#lib/http/rpc-handler.ts";
import type { Logger } from "#lib/process/log.ts";
import type { Mounted } from "../mount.ts";
import { type PersonServiceOptions, registerPersonService } from "./person-service.ts";

export interface PersonsRpcOptions extends PersonServiceOptions {
  publicKeys: readonly string[];
  secretKeys: readonly string[];
  /** Ends calls under way; abort it with the ConnectError that they end with. */
  shutdownSignal: AbortSignal;
  logger: Logger;
}

const MESSAGE_BYTES_MAX = 128 * 1024;

export function createPersonsRpc(options: PersonsRpcOptions): Mounted {
  const { publicKeys, secretKeys } = options;
  const isPublic = createKeyCheck(publicKeys);
  // A secret key that is also among the public ones has been given away.
  const isSecret = createKeyCheck(secretKeys.filter((key) => !publicKeys.includes(key)));
  const handler = createRpcHandler<undefined>({
    maxMessageBytes: MESSAGE_BYTES_MAX,
    keepsDeadlines: true,
    shutdownSignal: options.shutdownSignal,
    logger: options.logger,
    routes: (router) => registerPersonService(router, options),
  });

  function refusalOf(request: HttpRequest): ConnectError | undefined {
    if (secretKeys.length === 0)
      return refused("persons are deleted by secret key only: set SECRET_API_KEYS", Code.Unimplemented);
    if (request.headers.origin !== undefined) {
      return refused("web pages cannot delete persons, since a page cannot keep a secret key", Code.PermissionDenied);
    }
    const given = credentialsOf(request);
    if (given.some(isSecret)) return undefined;
    return given.some(isPublic)
      ? refused("a public key cannot delete persons: send one of SECRET_API_KEYS", Code.PermissionDenied)
      : refused(
          "the key is missing or unknown: send one of SECRET_API_KEYS as authorization: Bearer KEY or x-api-key: KEY",
          Code.Unauthenticated,
        );
  }

  return (request, response) => {
    const [path = ""] = (request.url ?? "").split("?", 1);
    if (!handler.serves(path)) return false;
    if (request.method === "OPTIONS") {
      // A preflight: without headers that allow it no page's browser goes on.
      response.writeHead(204);
      response.end();
      return true;
    }
    void handler.handle(request, response, path, refusalOf(request));
    return true;
  };
}

function refused(message: string, code: Code): ConnectError {
  return new ConnectError(message, code);
}

/** True for one of the keys; which of them, or how near a wrong one came, does not show in the time taken. */
function createKeyCheck(keys: readonly string[]): (given: string) => boolean {
  const checks = keys.map(createTokenCheck);
  return (given) => checks.reduce((found, isKey) => isKey(given) || found, false);
}
