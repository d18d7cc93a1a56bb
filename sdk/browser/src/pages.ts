// Page views and page leaves, including those of single-page apps.
import type { InitOptions, Properties } from "./types.ts";

export interface PagesOptions {
  pageviews: NonNullable<InitOptions["capturePageview"]>;
  /** Whether pages that are left are captured. */
  pageleaves: boolean;
  capture(event: "$pageview" | "$pageleave", properties: Properties): void;
  /** The page is hidden or closes; it may not run again. */
  onLeave(): void;
  /** It is shown again. */
  onReturn(): void;
}

/** Watches the page until the returned function is called. Does nothing where there is no page. */
export function watchPages(options: PagesOptions): () => void {
  if (typeof window === "undefined" || typeof document === "undefined") return () => undefined;
  let countedUrl: string | undefined;
  let hasLeft = false;
  const listening = new AbortController();
  const { signal } = listening;

  const view = () => {
    const { href } = window.location;
    if (href === countedUrl) return;
    countedUrl = href;
    options.capture("$pageview", pageProperties());
  };
  const leave = () => {
    if (!hasLeft && options.pageleaves) options.capture("$pageleave", pageProperties());
    hasLeft = true;
    options.onLeave();
  };
  const comeBack = () => {
    hasLeft = false;
    options.onReturn();
  };
  /** The browser kept the page when it was left, and shows it again: a view like any other, which will end by a leave. */
  const restored = ({ persisted }: PageTransitionEvent) => {
    if (!persisted) return;
    comeBack();
    countedUrl = undefined;
    if (options.pageviews) view();
  };

  if (options.pageviews) {
    // A page that the browser prepares may never be seen.
    const isPrerendering = (document as { prerendering?: boolean }).prerendering === true;
    if (isPrerendering) document.addEventListener("prerenderingchange", view, { once: true, signal });
    else view();
  }
  const unwrap = options.pageviews === "history_change" ? watchHistory(view) : undefined;
  window.addEventListener?.("pagehide", leave, { signal });
  window.addEventListener?.("pageshow", restored, { signal });
  document.addEventListener?.(
    "visibilitychange",
    () => (document.visibilityState === "hidden" ? leave() : comeBack()),
    { signal },
  );
  return () => {
    listening.abort();
    unwrap?.();
  };
}

export function pageProperties(): Properties {
  const { href, host, pathname } = window.location;
  return { $current_url: href, $host: host, $pathname: pathname, $referrer: document.referrer, $title: document.title };
}

function watchHistory(onChange: () => void): () => void {
  const { history } = window;
  let isWatching = true;
  const undo = (["pushState", "replaceState"] as const).map((name) => {
    const original = history[name];
    const wrapped: History["pushState"] = function (this: History, ...args) {
      original.apply(this, args);
      if (isWatching) onChange();
    };
    history[name] = wrapped;
    return () => {
      // Somebody who wrapped it after us still calls ours.
      if (history[name] === wrapped) history[name] = original;
    };
  });
  window.addEventListener("popstate", onChange);
  return () => {
    isWatching = false;
    window.removeEventListener("popstate", onChange);
    for (const each of undo) each();
  };
}
