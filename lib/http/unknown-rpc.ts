// An unknown RPC, answered to gRPC clients in their own way: they take a 404 for a proxy's.
import { mediaType } from "./body.ts";
import type { HttpRequest, HttpResponse } from "./message.ts";

/** Code `unimplemented` of gRPC. */
const UNIMPLEMENTED = "12";

/** Answers and returns true for a gRPC or gRPC-Web request; leaves any other untouched. */
export function refuseUnknownRpc(request: HttpRequest, response: HttpResponse): boolean {
  const type = mediaType(request);
  if (!type.startsWith("application/grpc")) return false;
  const path = (request.url ?? "").replace(/[?#].*$/s, "").slice(0, 200);
  response.statusCode = 200;
  response.setHeader("content-type", type);
  response.setHeader("grpc-status", UNIMPLEMENTED);
  response.setHeader("grpc-message", encodeURIComponent(`${path} is unknown here; list the services by reflection`));
  // Without a body the head ends the stream, as it must where trailers come first.
  response.end();
  return true;
}
