// `host:port`, as brokers and relay services are named.
import { csv, hasQuotesAround, type Setting } from "./settings.ts";

/** Of IPv4 and IPv6: what services listen on unless they are told otherwise. */
export const EVERY_ADDRESS = "::";

export interface HostPort {
  host: string;
  port: number;
}

export interface HostPortForm {
  /** For the sentence about a missing port. */
  usualPort: number;
  /** Default 1. */
  portMin?: number;
  /** ":8080" is every address. */
  anyHost?: boolean;
}

/** An IPv6 address is written [::1]:9092. Text: what is wrong, to follow the value. */
export function parseHostPort(
  text: string,
  { usualPort, portMin = 1, anyHost = false }: HostPortForm,
): HostPort | string {
  const [, scheme] = /^([a-z][a-z\d+.-]*:\/\/)/i.exec(text) ?? [];
  if (scheme !== undefined) return `expected host:port without ${scheme}`;
  if (hasQuotesAround(text)) return "expected host:port without quotation marks";
  const [separator] = /[;|\s]/.exec(text) ?? [];
  if (separator !== undefined)
    return `expected host:port; several are separated by commas, not by ${JSON.stringify(separator)}`;
  if (/^[\da-f:]*:[\da-f]*:[\da-f:.]*$/i.test(text))
    return `expected host:port, with an IPv6 address in brackets: [${text}]:${usualPort}`;
  const [, bracketed, plain, digits] = /^(?:\[([\da-f:.]+(?:%\w+)?)\]|([^:\s/@[\]]*))(?::(\d*))?$/i.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || (host === "" && !anyHost)) return `expected host:port, such as broker-1:${usualPort}`;
  if (!digits) return `expected host:port; the port is missing: ${text.replace(/:$/, "")}:${usualPort}?`;
  const port = Number(digits);
  if (port < portMin || port > 65_535) return `expected host:port, with a port from ${portMin} to 65535`;
  return { host: host === "" ? EVERY_ADDRESS : host, port };
}

/** A comma-separated list of them. */
export function hostPorts(form: HostPortForm): Setting<readonly string[]> {
  return csv([], {
    faultOf(item) {
      const parsed = parseHostPort(item, form);
      return typeof parsed === "string" ? `${item}: ${parsed}` : undefined;
    },
  });
}
