// Settings of TLS: what a listener shows, and whom a client trusts.
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import tls from "node:tls";
import type { z } from "zod";
import { text } from "./settings.ts";
import { envName } from "./sources.ts";

/** Of services with an HTTP port that their callers know. */
export const tlsSettings = {
  tlsCert: text().describe("PEM file with the certificate and its intermediates, for HTTPS; without it, plain HTTP."),
  tlsKey: text().describe("PEM file with its private key. Both are read again when they change, and on SIGHUP."),
};

/** PEM files of a listener. */
export interface TlsFiles {
  cert: string;
  key: string;
  /** What the names of their settings begin with: "TLS", "RELAY_TLS". */
  setting: string;
}

/** Undefined: no TLS. */
export function tlsFiles(cert: string | undefined, key: string | undefined, setting: string): TlsFiles | undefined {
  return cert === undefined || key === undefined ? undefined : { cert, key, setting };
}

/** For superRefine: the settings of both names, or neither. */
export function needsBoth<Name extends string>(certName: Name, keyName: Name) {
  return (config: Readonly<Record<Name, string | undefined>>, context: z.RefinementCtx): void => {
    if ((config[certName] === undefined) === (config[keyName] === undefined)) return;
    const message = `TLS needs both ${envName(certName)} and ${envName(keyName)}`;
    context.addIssue({ code: "custom", path: [certName], message });
  };
}

export const refuseHalfHttps = needsBoth("tlsCert", "tlsKey");

/** PEM file with certificates that a client is to trust. It is read when the setting is, so that --check-config tells. */
export function authorities() {
  return text().superRefine((path, context) => {
    if (path === undefined) return;
    try {
      readAuthorities(path);
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as Error).message });
    }
  });
}

/** Contents of a file that `authorities` has seen. Throws an Error when it has changed for the worse since. */
export function readAuthorities(path: string): Buffer {
  const content = readFileSync(path);
  // Node ignores what is no certificate, and every connection would fail for a reason that does not name the file.
  for (const pem of pemsOf(content)) new X509Certificate(pem);
  return content;
}

/**
 * Trusts these certificates beside the public authorities in all TLS connections that the process opens from now on: for
 * commands, which do one thing and end.
 */
export function trustAuthorities(path: string | undefined): void {
  if (path === undefined) return;
  tls.setDefaultCACertificates([...tls.getCACertificates("default"), ...pemsOf(readAuthorities(path))]);
}

function pemsOf(content: Buffer): string[] {
  const pems = content.toString("latin1").match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  if (!pems) throw new Error("the file has no certificate in PEM form");
  return pems;
}
