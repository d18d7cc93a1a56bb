// Where a command writes its results and its progress.

/** Where a command writes to: results, and what a person is told beside them. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
}

export const ownTerminal: Terminal = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
};
