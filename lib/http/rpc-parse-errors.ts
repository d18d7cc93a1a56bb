// connect 2.2 answers bytes that are not protobuf with `internal`, as if the server were at fault. The caller is: they
// get `invalid_argument`. There is no hook before the answer is made, so the answer is corrected on its way out. Only
// the library's own wording is matched; test/component/gateway-hostile.test.ts fails when an upgrade changes it.
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";

const WORDING = "parse binary: ";
const CONNECT_CODE = Buffer.from('"code":"internal"');
const CONNECT_CORRECTED = Buffer.from('"code":"invalid_argument"');
const GRPC_WEB_STATUS = Buffer.from("grpc-status: 13\r\n");
/** Same length, so that the frame's length prefix stays true; a header value may begin with spaces. */
const GRPC_WEB_CORRECTED = Buffer.from("grpc-status:  3\r\n");
const END_STREAM = 0x02;
const FRAME_HEAD_BYTES = 5;

export async function correctParseErrors(answer: UniversalServerResponse): Promise<UniversalServerResponse> {
  if (answer.body === undefined) return answer;
  const body = answer.body as AsyncIterable<Uint8Array>;
  const contentType = answer.header?.get("content-type") ?? "";
  if (answer.status === 500 && contentType === "application/json") return correctUnary(answer, body);
  if (contentType.startsWith("application/connect+")) return { ...answer, body: mapChunks(body, correctEndOfStream) };
  if (contentType.startsWith("application/grpc-web")) return { ...answer, body: mapChunks(body, correctWebTrailer) };
  if (contentType.startsWith("application/grpc")) return { ...answer, body: thenCorrectTrailer(body, answer.trailer) };
  return answer;
}

async function correctUnary(
  answer: UniversalServerResponse,
  body: AsyncIterable<Uint8Array>,
): Promise<UniversalServerResponse> {
  const bytes = Buffer.concat(await Array.fromAsync(body));
  if (!bytes.includes(WORDING)) return { ...answer, body: once(bytes) };
  answer.header?.delete("content-length");
  return { ...answer, status: 400, body: once(replaceFirst(bytes, CONNECT_CODE, CONNECT_CORRECTED)) };
}

/** The end-of-stream envelope of a Connect stream holds the error as JSON; its length prefix is rewritten. */
function correctEndOfStream(chunk: Uint8Array): Uint8Array {
  if (((chunk[0] ?? 0) & END_STREAM) === 0 || !Buffer.from(chunk).includes(WORDING)) return chunk;
  const payload = replaceFirst(Buffer.from(chunk.subarray(FRAME_HEAD_BYTES)), CONNECT_CODE, CONNECT_CORRECTED);
  const head = Buffer.from(chunk.subarray(0, FRAME_HEAD_BYTES));
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

function correctWebTrailer(chunk: Uint8Array): Uint8Array {
  const bytes = Buffer.from(chunk);
  return bytes.includes(`grpc-message: ${encodeURIComponent(WORDING)}`)
    ? replaceFirst(bytes, GRPC_WEB_STATUS, GRPC_WEB_CORRECTED)
    : chunk;
}

async function* thenCorrectTrailer(body: AsyncIterable<Uint8Array>, trailer: Headers | undefined) {
  yield* body;
  const message = trailer?.get("grpc-message") ?? "";
  if (decodeURIComponent(message).startsWith(WORDING)) trailer?.set("grpc-status", "3");
}

async function* mapChunks(body: AsyncIterable<Uint8Array>, map: (chunk: Uint8Array) => Uint8Array) {
  for await (const chunk of body) yield map(chunk);
}

async function* once(bytes: Uint8Array) {
  yield bytes;
}

function replaceFirst(bytes: Buffer, search: Buffer, replacement: Buffer): Buffer {
  const at = bytes.indexOf(search);
  if (at < 0) return bytes;
  return Buffer.concat([bytes.subarray(0, at), replacement, bytes.subarray(at + search.length)]);
}
