// Makes a client available to the components below it.
import { createClient, type InitOptions, type Millrace } from "@millrace/browser";
import { createElement, type ReactElement, type ReactNode, useEffect, useRef, useState } from "react";
import { AnalyticsContext } from "./context.ts";

/** Either `client`, or `options`. */
export type AnalyticsProviderProps = { children?: ReactNode } & (
  | {
      /** A client that the app has started, and stops. Undefined: not yet. Another one takes its place at once. */
      client: Millrace | undefined;
      options?: undefined;
      apiKey?: undefined;
    }
  | {
      client?: undefined;
      /** As for `init`. Read once, when the provider is mounted: to change them, give the provider another `key`. */
      options: InitOptions;
      /** Takes the place of `options.apiKey`. Read once, too. */
      apiKey?: string | undefined;
    }
);

interface Started {
  client: Millrace;
  apiKey: string | undefined;
  options: string;
  stopping?: ReturnType<typeof setTimeout> | undefined;
}

/**
 * Makes a client available to useAnalytics. With `options` it is the provider's own: started after the first render in
 * the browser, never on a server, and shut down when the provider is gone. Options that init refuses are reported in the
 * console, and the app runs without a client.
 */
export function AnalyticsProvider({ client, options, apiKey, children }: AnalyticsProviderProps): ReactElement {
  const own = useOwnClient(client === undefined ? options : undefined, apiKey);
  return createElement(AnalyticsContext.Provider, { value: client ?? own }, children);
}

function useOwnClient(options: InitOptions | undefined, apiKey: string | undefined): Millrace | undefined {
  const [client, setClient] = useState<Millrace>();
  const started = useRef<Started | undefined>(undefined);
  const isWanted = options !== undefined;

  // biome-ignore lint/correctness/useExhaustiveDependencies: options and key are read once; the next effect tells
  useEffect(() => {
    if (!isWanted) return;
    started.current ??= start(options, apiKey);
    const { current } = started;
    if (current === undefined) return;
    clearTimeout(current.stopping);
    setClient(current.client);
    return () => {
      // StrictMode runs the effect again at once; then it is still the same client.
      current.stopping = setTimeout(() => {
        started.current = undefined;
        setClient(undefined);
        void current.client.shutdown();
      }, 0);
    };
  }, [isWanted]);

  const isWarned = useRef({ apiKey: false, options: false });
  useEffect(() => {
    const { current } = started;
    if (current === undefined || options === undefined) return;
    const changed = { apiKey: apiKey !== current.apiKey, options: describe(options) !== current.options };
    for (const name of ["apiKey", "options"] as const) {
      if (!changed[name] || isWarned.current[name]) continue;
      isWarned.current[name] = true;
      report("warn", `${name} changed and is read once: give the provider another key to start over`);
    }
  });

  return client;
}

/** Undefined when init refuses the options. */
function start(options: InitOptions, apiKey: string | undefined): Started | undefined {
  try {
    const client = createClient().init(apiKey === undefined ? options : { ...options, apiKey });
    return { client, apiKey, options: describe(options) };
  } catch (error) {
    // Thrown on, it would take the whole app off the page.
    report("error", "nothing is captured", error);
    return undefined;
  }
}

/** Without functions: those written in place are new ones in every render. */
function describe(options: InitOptions): string {
  return JSON.stringify(options);
}

function report(level: "warn" | "error", ...what: unknown[]): void {
  // biome-ignore lint/suspicious/noConsole: the only place where a page's developer looks
  console[level]("AnalyticsProvider:", ...what);
}
