// Runs the cases one after another; one that fails does not stop the others.
import type { Case, Result, Setting } from "./result.ts";

export interface Failure {
  /** Name of the case. */
  name: string;
  message: string;
}

export interface Outcome {
  results: Result[];
  failures: Failure[];
}

export interface RunnerOptions extends Setting {
  /** Called at once for each case that fails, with its error. */
  onFailure(name: string, error: unknown): void;
}

/** Runs the cases one after another. A failing one does not keep the others from running, `signal` does. */
export async function runCases(cases: readonly (readonly [string, Case])[], options: RunnerOptions): Promise<Outcome> {
  const outcome: Outcome = { results: [], failures: [] };
  for (const [index, [name, measure]] of cases.entries()) {
    if (options.signal.aborted) break;
    const prefix = `[${index + 1}/${cases.length}] ${name}`;
    options.progress(prefix);
    const progress = (text: string) => options.progress(`${prefix}: ${text}`);
    try {
      outcome.results.push(await measure({ ...options, progress }));
    } catch (error) {
      outcome.failures.push({ name, message: error instanceof Error ? error.message : String(error) });
      options.onFailure(name, error);
    }
  }
  return outcome;
}
