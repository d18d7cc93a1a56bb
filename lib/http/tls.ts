// TLS of what listens: a certificate with its key from PEM files, checked when it is read, and taken anew when the files
// change or on SIGHUP, so that a certificate is replaced without a restart.
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import tls from "node:tls";
import type { TlsFiles } from "#lib/config/tls-settings.ts";
import type { Logger } from "#lib/process/log.ts";

export interface TlsServerOptions {
  files: TlsFiles;
  /** Protocols offered by ALPN, the preferred one first; none: ALPN is not spoken. */
  protocols?: string[];
  /** Time for a whole handshake, however its bytes come; then the connection is closed. */
  handshakeTimeoutMs: number;
  /** How often the files are looked at. Default 10,000. */
  recheckMs?: number;
  logger: Logger;
}

/** Their contents are compared, not their times: secrets mounted by Kubernetes are links that are put elsewhere. */
const RECHECK_MS = 10_000;

/**
 * Not listening yet. Until it is closed it follows its files: new connections get the new certificate, and one that is
 * no good leaves that of before in use, with an error in the log. Rejects with a sentence that names setting and file.
 */
export async function createTlsServer(options: TlsServerOptions): Promise<tls.Server> {
  const { files, protocols, handshakeTimeoutMs: handshakeTimeout, logger } = options;
  const first = await readPair(files);
  const server = tls.createServer({
    cert: first.cert,
    key: first.key,
    handshakeTimeout,
    noDelay: true,
    keepAlive: true,
    ...(protocols && { ALPNProtocols: protocols }),
  });
  // A handshake that fails is the peer's affair: a scanner, a client that does not trust us. Node says that one has taken
  // too long and closes nothing.
  server.on("tlsClientError", (err, socket) => {
    socket.destroy();
    logger.debug({ err }, "tls handshake failed");
  });
  server.once("listening", () => followFiles(server, first, options));
  return server;
}

function followFiles(server: tls.Server, first: Pair, { files, recheckMs = RECHECK_MS, logger }: TlsServerOptions) {
  let current = first;
  let failure: { reason: string; isTold: boolean } | undefined;

  async function recheck(isAsked: boolean): Promise<void> {
    try {
      const next = await readPair(files);
      failure = undefined;
      if (next.cert.equals(current.cert) && next.key.equals(current.key)) return;
      server.setSecureContext({ cert: next.cert, key: next.key });
      current = next;
      logger.info({ file: files.cert, validTo: next.validTo }, "new TLS certificate");
    } catch (error) {
      const reason = String(error);
      // While a pair is being replaced one half is there before the other: only what stays so is told, and once.
      const stays = failure?.reason === reason;
      const isTold = stays && failure?.isTold === true;
      failure = { reason, isTold: isTold || stays || isAsked };
      if (failure.isTold && !isTold)
        logger.error({ err: error }, "TLS files are invalid; the current certificate stays in use");
    }
  }

  // One after another: of two reads side by side the older could win.
  let last = Promise.resolve();
  const enqueue = (isAsked: boolean) => {
    last = last.then(() => recheck(isAsked));
  };
  const timer = setInterval(() => enqueue(false), recheckMs);
  timer.unref();
  const onHangup = () => enqueue(true);
  process.on("SIGHUP", onHangup);
  server.once("close", () => {
    clearInterval(timer);
    process.off("SIGHUP", onHangup);
  });
}

interface Pair {
  cert: Buffer;
  key: Buffer;
  validTo: Date;
}

async function readPair({ cert: certFile, key: keyFile, setting }: TlsFiles): Promise<Pair> {
  const [certSetting, keySetting] = [`${setting}_CERT`, `${setting}_KEY`];
  const [cert, key] = await Promise.all([readPem(certFile, certSetting), readPem(keyFile, keySetting)]);
  const certificate = parse(
    () => new X509Certificate(cert),
    `${certSetting}: ${certFile} has no certificate in PEM form`,
  );
  const privateKey: KeyObject = parse(
    () => createPrivateKey(key),
    `${keySetting}: ${keyFile} has no private key in PEM form without a passphrase`,
  );
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new Error(`${keySetting}: ${keyFile} is not the key of the certificate in ${certFile}`);
  }
  const now = new Date();
  const { validFromDate, validToDate } = certificate;
  if (validToDate < now) throw new Error(`${certSetting}: ${certFile} has expired on ${validToDate.toISOString()}`);
  if (validFromDate > now) {
    throw new Error(`${certSetting}: ${certFile} is not valid before ${validFromDate.toISOString()}: check the clock`);
  }
  // What only OpenSSL knows: a chain that cannot be read, a key that is too short for it.
  parse(() => tls.createSecureContext({ cert, key }), `${certSetting} and ${keySetting} cannot be used`);
  return { cert, key, validTo: validToDate };
}

function parse<T>(work: () => T, fault: string): T {
  try {
    return work();
  } catch (cause) {
    throw new Error(`${fault}: ${(cause as Error).message}`, { cause });
  }
}

async function readPem(path: string, setting: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new Error(`${setting}: ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
