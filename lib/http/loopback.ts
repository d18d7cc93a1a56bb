// Which addresses only this machine can reach.

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/;

/** Whether only this machine can reach what listens on the address. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}
