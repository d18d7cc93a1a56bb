// Where a command writes to.

/** Results, and what a person reads beside them. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
}

export const ownOutput: Output = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
};
