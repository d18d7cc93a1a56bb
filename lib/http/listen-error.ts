// Why a port cannot be listened on, and what to do about it.

export interface ListenTarget {
  host: string;
  port: number;
  /** Environment name of the port's setting: "PORT". */
  setting: string;
}

/** In place of what `listen` reported, of which nothing is left to say. */
export function describeListenError(error: unknown, { host, port, setting }: ListenTarget): Error {
  return new Error(`Cannot listen on ${host}:${port}: ${reasonAndRemedy(error, port, setting)}`);
}

function reasonAndRemedy(error: unknown, port: number, setting: string): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "EADDRINUSE":
      return `another process, or another setting of this one, uses that port. Free it, or set ${setting} to another port (0 picks a free one).`;
    case "EACCES":
      return `this user may not open port ${port}. Set ${setting} to a port above 1023, or grant CAP_NET_BIND_SERVICE.`;
    case "EADDRNOTAVAIL":
      return "this machine has no such address. Set HOST to 127.0.0.1, :: or an address of this machine.";
    case "ENOTFOUND":
      return "that host name cannot be resolved. Set HOST to an IP address of this machine.";
    default:
      return `${error instanceof Error ? error.message : String(error)}.`;
  }
}
