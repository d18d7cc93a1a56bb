// gRPC as tests of the wire need it: frames of any bytes, and the trailers that answer them.
import http2 from "node:http2";

export interface GrpcAnswer {
  trailers: http2.IncomingHttpHeaders;
  text: string;
}

/** One call on a connection of its own. `headers` may name another path or content type. */
export async function callGrpc(url: string, path: string, body: Uint8Array, headers = {}): Promise<GrpcAnswer> {
  const session = http2.connect(url);
  // A failed session fails the call on it.
  session.on("error", () => {});
  try {
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    let trailers: http2.IncomingHttpHeaders = {};
    stream.on("trailers", (given) => {
      trailers = given;
    });
    stream.on("response", (given) => {
      if ("grpc-status" in given) trailers = given;
    });
    stream.end(body);
    const chunks = (await Array.fromAsync(stream)) as Buffer[];
    return { trailers, text: Buffer.concat(chunks).toString() };
  } finally {
    session.destroy();
  }
}
