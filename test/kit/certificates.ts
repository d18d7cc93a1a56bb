// Certificates for tests of TLS: self-signed, for 127.0.0.1 and localhost, valid for two days from now.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export interface TestCertificates extends AsyncDisposable {
  /** Makes a certificate with its key under these names and resolves with its PEM text, which is its authority as well. */
  make(name: string, commonName?: string): Promise<string>;
  certFile(name: string): string;
  keyFile(name: string): string;
  /** Puts the files of `from` in the place of those of `to`. */
  replace(to: string, from: string): Promise<void>;
}

const run = promisify(execFile);

/** In a directory that goes with it. */
export async function createTestCertificates(): Promise<TestCertificates> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-tls-"));
  const certFile = (name: string) => join(directory, `${name}.crt`);
  const keyFile = (name: string) => join(directory, `${name}.key`);
  return {
    certFile,
    keyFile,
    async make(name, commonName = name) {
      const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", keyFile(name)];
      const subject = [
        "-subj",
        `/CN=${commonName}`,
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-days",
        "2",
      ];
      await run("openssl", ["req", "-x509", ...key, "-out", certFile(name), ...subject]);
      return readFile(certFile(name), "utf8");
    },
    async replace(to, from) {
      await rename(keyFile(from), keyFile(to));
      await rename(certFile(from), certFile(to));
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
