// How many deliveries are under way at once: few to one receiver, so that one that hangs cannot hold up the others.

export interface Slots {
  /** Resolves when there is room, with the function that gives it back; rejects with the signal's reason. */
  take(receiver: string, signal: AbortSignal): Promise<() => void>;
}

interface Waiting {
  receiver: string;
  admit(): void;
}

export function createSlots(total: number, perReceiver: number): Slots {
  const busy = new Map<string, number>();
  const waiting = new Set<Waiting>();
  let taken = 0;

  const hasRoom = (receiver: string) => taken < total && (busy.get(receiver) ?? 0) < perReceiver;

  function occupy(receiver: string): () => void {
    taken++;
    busy.set(receiver, (busy.get(receiver) ?? 0) + 1);
    return () => {
      taken--;
      const left = (busy.get(receiver) ?? 1) - 1;
      if (left === 0) busy.delete(receiver);
      else busy.set(receiver, left);
      for (const next of waiting) {
        if (!hasRoom(next.receiver)) continue;
        next.admit();
        if (taken === total) return;
      }
    };
  }

  return {
    take(receiver, signal) {
      if (hasRoom(receiver)) return Promise.resolve(occupy(receiver));
      const { promise, resolve, reject } = Promise.withResolvers<() => void>();
      const leave = () => {
        waiting.delete(next);
        reject(signal.reason);
      };
      const next: Waiting = {
        receiver,
        admit() {
          waiting.delete(next);
          signal.removeEventListener("abort", leave);
          resolve(occupy(receiver));
        },
      };
      waiting.add(next);
      signal.addEventListener("abort", leave, { once: true });
      if (signal.aborted) leave();
      return promise;
    },
  };
}
