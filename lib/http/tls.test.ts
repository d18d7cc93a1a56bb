import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { Writable } from "node:stream";
import tls from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { createLogger } from "#lib/process/log.ts";
import { createTestCertificates, type TestCertificates } from "../../test/kit/certificates.ts";
import { createTlsServer, type TlsServerOptions } from "./tls.ts";

let files: TestCertificates;
beforeAll(async () => {
  files = await createTestCertificates();
  await Promise.all([files.make("one"), files.make("two")]);
});
afterAll(() => files[Symbol.asyncDispose]());
afterEach(() => {
  vi.useRealTimers();
});

const WAIT = { timeout: 10_000, interval: 10 };
const silent = createLogger({ level: "silent", service: "test" });

function open(cert: string, key: string, more: Partial<TlsServerOptions> = {}) {
  const pair = { cert: files.certFile(cert), key: files.keyFile(key), setting: "TLS" };
  return createTlsServer({ files: pair, handshakeTimeoutMs: 5_000, logger: silent, ...more });
}

/** The name in the certificate that a new connection is shown. */
async function shownName(port: number): Promise<string | undefined> {
  const socket = tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

describe("refuses, with the name of setting and file", () => {
  it("a file that is not there", async () => {
    await expect(open("none", "one")).rejects.toThrow(/^TLS_CERT: .*none\.crt cannot be read: ENOENT/);
    await expect(open("one", "none")).rejects.toThrow(/^TLS_KEY: .*none\.key cannot be read: ENOENT/);
  });

  it("a file that is something else, without a word of what is in it", async () => {
    await writeFile(files.certFile("text"), "MARKED-CONTENT");
    await writeFile(files.keyFile("text"), "MARKED-CONTENT");
    await expect(open("text", "one")).rejects.toThrow(/^TLS_CERT: .*text\.crt has no certificate in PEM form/);
    await expect(open("one", "text")).rejects.toThrow(/^TLS_KEY: .*text\.key has no private key in PEM form/);
    await expect(open("one", "text")).rejects.not.toThrow("MARKED-CONTENT");
  });

  it("a key with a passphrase, which nobody could type", async () => {
    const protect = [
      "ec",
      "-in",
      files.keyFile("one"),
      "-aes256",
      "-passout",
      "pass:x",
      "-out",
      files.keyFile("locked"),
    ];
    execFileSync("openssl", protect, { stdio: "ignore" });
    await expect(open("one", "locked")).rejects.toThrow("without a passphrase");
  });

  it("the key of another certificate", async () => {
    await expect(open("one", "two")).rejects.toThrow(/^TLS_KEY: .*two\.key is not the key of the certificate in .*one/);
  });

  it("a certificate that has expired, or is of tomorrow", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    vi.setSystemTime(Date.now() + 3 * 86_400_000);
    await expect(open("one", "one")).rejects.toThrow(/^TLS_CERT: .*one\.crt has expired on 2/);
    vi.setSystemTime(Date.now() - 6 * 86_400_000);
    await expect(open("one", "one")).rejects.toThrow(/^TLS_CERT: .*one\.crt is not valid before 2.*check the clock/);
  });
});

it("shows new connections the certificate that has replaced another, and keeps that one while files are no good", async () => {
  await Promise.all([files.make("served"), files.make("next")]);
  const lines: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  const logger = createLogger({ level: "info", service: "test", stream });
  const server = await open("served", "served", { recheckMs: 10, logger });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    expect(await shownName(port)).toBe("served");
    await writeFile(files.certFile("served"), "half a certificate");
    await vi.waitUntil(() => lines.length > 0, WAIT);
    expect(lines.join("")).toContain("has no certificate in PEM form");
    expect(await shownName(port)).toBe("served");

    await files.replace("served", "next");
    await vi.waitFor(async () => expect(await shownName(port)).toBe("next"), WAIT);
    // The fault once, however often it was met, and the new certificate.
    expect(lines.map((line) => (JSON.parse(line) as { message: string }).message)).toEqual([
      "TLS files are invalid; the current certificate stays in use",
      "new TLS certificate",
    ]);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

it("leaves neither timer nor signal handler behind", async () => {
  const before = process.listenerCount("SIGHUP");
  const server = await open("one", "one");
  expect(process.listenerCount("SIGHUP")).toBe(before);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  expect(process.listenerCount("SIGHUP")).toBe(before + 1);
  await new Promise((resolve) => server.close(resolve));
  expect(process.listenerCount("SIGHUP")).toBe(before);
});
