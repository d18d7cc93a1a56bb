// TLS to the brokers by files: whom to trust, and the certificate to show. Read for each connection, so that a certificate
// that is replaced needs no restart.
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { type ConnectionOptions, createSecureContext } from "node:tls";
import { readAuthorities } from "#lib/config/tls-settings.ts";
import type { Logger } from "#lib/process/log.ts";

export interface ClientTlsFiles {
  ca: string | undefined;
  cert: string | undefined;
  key: string | undefined;
}

/** Throws when the files are of no use now; later it goes on with those of before and warns, once for each reason. */
export function clientTls(files: ClientTlsFiles, logger: Logger): () => ConnectionOptions {
  let current = readClientTls(files);
  let told = "";
  return () => {
    try {
      current = readClientTls(files);
      told = "";
    } catch (err) {
      if (String(err) !== told) logger.warn({ err }, "TLS files for Kafka are invalid; those of before stay in use");
      told = String(err);
    }
    return current;
  };
}

/** Throws an Error that names setting and file. */
export function readClientTls({ ca, cert: certFile, key: keyFile }: ClientTlsFiles): ConnectionOptions {
  const trust = ca === undefined ? {} : { ca: readAuthorities(ca) };
  if (certFile === undefined || keyFile === undefined) return trust;
  const [cert, key] = [readPem("KAFKA_SSL_CERT", certFile), readPem("KAFKA_SSL_KEY", keyFile)];
  try {
    // OpenSSL looks at the pair, the date is ours to look at.
    createSecureContext({ cert, key });
    const { validToDate } = new X509Certificate(cert);
    if (validToDate < new Date()) throw new Error(`the certificate has expired on ${validToDate.toISOString()}`);
  } catch (cause) {
    const { message } = cause as Error;
    throw new Error(`KAFKA_SSL_CERT ${certFile} and KAFKA_SSL_KEY ${keyFile} cannot be used: ${message}`, { cause });
  }
  return { ...trust, cert, key };
}

function readPem(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new Error(`${setting}: ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
