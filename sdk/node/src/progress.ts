// How far captured events have come, in the order of capture: what flush waits for.

export interface Progress {
  /** One more event waits. */
  captured(): void;
  /** The next so many events are on their way; returns what `settled` is to be told. */
  taken(events: number): number;
  /** All events of that part have their verdict. */
  settled(part: number): void;
  /** The next so many events will never be sent. */
  lost(events: number): void;
  /**
   * Resolves with true when all that was captured before has its verdict, with false after `timeoutMs` or at the end.
   * Keeps the process alive until then, which nothing else of an idle client does.
   */
  reach(timeoutMs: number): Promise<boolean>;
  /** Nothing will be settled any more. */
  end(): void;
}

export function createProgress(recovered: number): Progress {
  /** Number of the first event of each part that is on its way. */
  const open = new Set<number>();
  const waiters = new Set<() => void>();
  let [capturedCount, takenCount] = [recovered, 0];
  let isOver = false;

  function wake(): void {
    for (const look of waiters) look();
  }

  return {
    captured() {
      capturedCount += 1;
    },
    taken(events) {
      const part = takenCount;
      takenCount += events;
      open.add(part);
      return part;
    },
    settled(part) {
      open.delete(part);
      wake();
    },
    lost(events) {
      takenCount += events;
      wake();
    },
    reach(timeoutMs) {
      const target = capturedCount;
      return new Promise((resolve) => {
        const done = (isAll: boolean) => {
          clearTimeout(deadline);
          waiters.delete(look);
          resolve(isAll);
        };
        const look = () => {
          if (Math.min(takenCount, ...open) >= target) done(true);
          else if (isOver) done(false);
        };
        const deadline = setTimeout(() => done(false), timeoutMs);
        waiters.add(look);
        look();
      });
    },
    end() {
      isOver = true;
      wake();
    },
  };
}
