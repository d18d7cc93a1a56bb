// How the time of something grows with the text it is given: what is linear passes on a machine that is busy with other
// things, what is quadratic fails everywhere.

/** Texts of a given length that patterns and scanners are known to fall over. */
export const HOSTILE_SHAPES: Readonly<Record<string, (length: number) => string>> = {
  "times in a comment": (n) => `2026-03-27 12:00:00 (${repeat(":0", n)})`,
  "digits of a second": (n) => `2026-03-27T12:00:00.${repeat("0", n)}`,
  "digits and a letter": (n) => `${repeat("0", n)}x`,
  "blanks and a letter": (n) => `Fri, 27 Mar 2026${repeat(" ", n)}x`,
  signs: (n) => `12:00${repeat("+1", n)}x`,
  "open brackets": (n) => repeat("(", n),
  "open arrays": (n) => repeat("[", n),
  words: (n) => repeat("z z", n),
  commas: (n) => repeat(",;", n),
  slashes: (n) => `${repeat("/", n)}x`,
  dots: (n) => repeat("1.", n),
  quotes: (n) => repeat("'\"", n),
  backslashes: (n) => repeat("\\", n),
  escapes: (n) => repeat("\\ud800", n),
  surrogates: (n) => repeat("\ud800", n),
  "marks and a line end": (n) => `${repeat("#", n)}\n#`,
};

/** Tries until the shortest times of all rounds are good: garbage collection spoils some of them, never all. */
const ROUNDS_MAX = 20;
/** Not even the machine's worst moment makes so much of what is linear. */
const HOPELESS_MS = 1000;
const FACTOR = 2.5;
const MARGIN_MS = 20;

/**
 * Measures `run` over texts of n, 2n and 4n characters. Resolves with undefined when the time at most doubles, give or
 * take a margin, with each doubling of the text; otherwise with what was measured. The time is the processor's, of all
 * threads of this process: what else the machine does is not in it.
 */
export async function excessGrowth(
  run: (text: string) => unknown,
  shape: (length: number) => string,
  length: number,
): Promise<string | undefined> {
  const texts = [shape(length), shape(2 * length), shape(4 * length)];
  const best = texts.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < ROUNDS_MAX; round++) {
    for (const [index, text] of texts.entries()) {
      const before = process.cpuUsage();
      await run(text);
      const { user, system } = process.cpuUsage(before);
      best[index] = Math.min(best[index] ?? 0, (user + system) / 1000);
    }
    const [one = 0, two = 0, four = 0] = best;
    if (two <= one * FACTOR + MARGIN_MS && four <= two * FACTOR + MARGIN_MS) return undefined;
    if (round > 0 && four > HOPELESS_MS) break;
  }
  return best.map((ms, index) => `${texts[index]?.length} characters: ${ms.toFixed(1)} ms`).join(", ");
}

function repeat(unit: string, length: number): string {
  return unit.repeat(Math.ceil(length / unit.length));
}
