// Runs checks: all at once, each as soon as what it needs is there, each with an end.
import { TimeoutError, within } from "#lib/process/waiting.ts";
import { failureOf } from "./failure.ts";

export type Status = "ok" | "warn" | "fail" | "skip";

/** What one check found. */
export interface Finding {
  status: Status;
  what: string;
  /** What to do about it. */
  fix?: string | undefined;
}

/** A finding, and what other checks can build on; without `value` they are skipped. */
export interface Result<T> extends Finding {
  value?: T | undefined;
}

export interface Probe<T> {
  readonly name: string;
  /** Never rejects. */
  readonly result: Promise<Result<T>>;
}

type Needs = Record<string, Probe<unknown>>;
type Values<N extends Needs> = { [K in keyof N]: N[K] extends Probe<infer T> ? T : never };

type Work<N extends Needs, T> = (values: Values<N>, signal: AbortSignal) => Promise<Result<T>>;
type Late = Omit<Finding, "status">;

export interface Examination {
  /** In the order in which they were made. */
  readonly probes: readonly Probe<unknown>[];
  /**
   * Runs `work` when all `needs` have values. Its rejection is a failure of the check, and so is its silence for too long;
   * `late` says what that means.
   */
  probe<N extends Needs, T = true>(name: string, needs: N, work: Work<N, T>, late?: Late): Probe<T>;
}

/** `timeoutMs` is for each check by itself, from when what it needs is there. */
export function createExamination(timeoutMs: number): Examination {
  const probes: Probe<unknown>[] = [];

  async function run<N extends Needs, T>(needs: N, work: Work<N, T>, late: Late): Promise<Result<T>> {
    const values: Record<string, unknown> = {};
    for (const [key, { name, result }] of Object.entries(needs)) {
      const { value } = await result;
      if (value === undefined) return { status: "skip", what: `not checked, because it needs: ${name}` };
      values[key] = value;
    }
    return await bounded((signal) => work(values as Values<N>, signal), timeoutMs, late);
  }

  return {
    probes,
    probe(name, needs, work, late = { what: `no answer within ${timeoutMs} ms`, fix: SLOW }) {
      const probe = { name, result: run(needs, work, late) };
      probes.push(probe);
      return probe;
    },
  };
}

/** Does not wait for work that ignores its signal. */
async function bounded<T>(
  work: (signal: AbortSignal) => Promise<Result<T>>,
  timeoutMs: number,
  late: Late,
): Promise<Result<T>> {
  const tooLong = new TimeoutError("the check took too long");
  try {
    return await within(timeoutMs, work, () => tooLong);
  } catch (error) {
    return error === tooLong ? { status: "fail", ...late } : failureOf(error);
  }
}

const SLOW = "see whether it hangs or is overloaded; DOCTOR_TIMEOUT gives it more time";
