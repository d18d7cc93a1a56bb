// HTTP as hostile tests need it: over one kept connection, over a raw socket, over HTTP/2 without a client's manners.
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  text: string;
}

export interface Call {
  method?: string;
  headers?: http.OutgoingHttpHeaders;
  body?: string | Uint8Array;
  /** Sends the body without declaring its length. */
  chunked?: boolean;
}

/** Calls follow each other on one connection; over HTTP/1.1 on the next one when the server closed it in good order. */
export interface OneConnection extends Disposable {
  call(path: string, call?: Call): Promise<Answer>;
}

export function connectH1(port: number): OneConnection {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  return {
    call: (path, call = {}) => send(port, path, call, agent),
    [Symbol.dispose]: () => agent.destroy(),
  };
}

/** A call on a connection of its own. */
export function callH1(port: number, path: string, call: Call = {}): Promise<Answer> {
  return send(port, path, call, false);
}

function send(port: number, path: string, call: Call, agent: http.Agent | false): Promise<Answer> {
  const { method = "POST", headers = {}, body = "", chunked = false } = call;
  const length = chunked ? {} : { "content-length": Buffer.byteLength(body) };
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const request = http.request({ host: "127.0.0.1", port, path, method, agent, headers: { ...length, ...headers } });
  request.on("error", reject);
  request.on("response", (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () => {
      const bytes = Buffer.concat(chunks);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes, text: bytes.toString() });
    });
  });
  if (chunked) request.write(body);
  request.end(chunked ? undefined : body);
  return promise;
}

/** One HTTP/2 connection. */
export function connectH2(port: number): OneConnection {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  // A failed session fails the calls on it, which is where the test sees it.
  session.on("error", () => {});
  return {
    async call(path, { method = "POST", headers = {}, body = "" } = {}) {
      const endStream = body.length === 0;
      const stream = session.request({ ":method": method, ":path": path, ...headers }, { endStream });
      if (!endStream) stream.end(body);
      const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
      const chunks = (await Array.fromAsync(stream)) as Buffer[];
      const bytes = Buffer.concat(chunks);
      return { status: Number(head[":status"]), headers: head, body: bytes, text: bytes.toString() };
    },
    [Symbol.dispose]: () => session.destroy(),
  };
}

/** Sends bytes and resolves with everything the server says until it closes the connection. */
export async function exchangeRaw(port: number, bytes: string | Uint8Array): Promise<string> {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  let answer = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    answer += text;
  });
  const closed = once(socket, "close");
  await once(socket, "connect");
  if (bytes.length > 0) socket.write(bytes);
  await closed;
  return answer;
}

/** A gRPC or Connect stream frame. */
export function envelope(payload: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}
