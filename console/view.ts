// What a view is given, and how it reads: once, or again and again while it is looked at.
import { render } from "lit-html";
import { CallError, wait } from "./api.ts";
import { type Loaded, notLoaded, type Piece } from "./parts.ts";

export interface Host {
  readonly root: HTMLElement;
  /** Fires when the view is left. */
  readonly signal: AbortSignal;
  readonly params: URLSearchParams;
  /** Goes on within the view, without a step in the history. */
  replace(params: Record<string, string>): void;
  /** The server does not answer: says so above the view, and resolves nothing. */
  onGone(): void;
}

export type View = (host: Host) => void;

/** Draws at most once a frame. */
export function drawer(host: Host, template: () => Piece): () => void {
  let isDue = false;
  return () => {
    if (isDue || host.signal.aborted) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      if (!host.signal.aborted) render(template(), host.root);
    });
  };
}

export interface Reading<T> {
  readonly state: Loaded<T>;
  /** Reads now; an answer that is still on its way is forgotten. */
  read(): void;
  /** Forgets what was read, since the question is another, and reads. */
  restart(): void;
}

export interface Again<T> {
  /** Reads again so long after each answer, while the page can be seen. */
  everyMs: number;
  /** Nothing more will change. */
  isDone?: (value: T) => boolean;
}

/** Failures that may be over by themselves. */
const PASSING = new Set<unknown>(["gone", "busy"]);

export function reading<T>(
  host: Host,
  draw: () => void,
  load: (signal: AbortSignal) => Promise<T>,
  again?: Again<T>,
): Reading<T> {
  const state = notLoaded<T>();
  let turn = new AbortController();

  async function run(own: AbortController): Promise<void> {
    const signal = AbortSignal.any([host.signal, own.signal]);
    try {
      while (true) {
        await once(signal);
        if (!again || isOver(state, again)) return;
        await wait(again.everyMs, signal);
        await untilVisible(signal);
      }
    } catch {
      // Left, or asked again.
    }
  }

  async function once(signal: AbortSignal): Promise<void> {
    try {
      const value = await load(signal);
      signal.throwIfAborted();
      Object.assign(state, { value, error: undefined, atMs: Date.now() });
    } catch (error) {
      signal.throwIfAborted();
      state.error = error;
      if (error instanceof CallError && error.kind === "gone") host.onGone();
    }
    draw();
  }

  function read(): void {
    turn.abort();
    turn = new AbortController();
    void run(turn);
  }

  return {
    state,
    read,
    restart() {
      Object.assign(state, notLoaded<T>());
      draw();
      read();
    },
  };
}

function isOver<T>({ value, error }: Loaded<T>, { isDone }: Again<T>): boolean {
  if (error !== undefined) return !(error instanceof CallError && PASSING.has(error.kind));
  return value !== undefined && isDone?.(value) === true;
}

/** Rejects with the signal's reason. */
export async function untilVisible(signal: AbortSignal): Promise<void> {
  while (document.visibilityState === "hidden") {
    const { promise, resolve } = Promise.withResolvers<void>();
    document.addEventListener("visibilitychange", () => resolve(), { once: true, signal });
    signal.addEventListener("abort", () => resolve(), { once: true });
    await promise;
    signal.throwIfAborted();
  }
}
