// The React context of the client, and the hook that reads it.
import type { Millrace } from "@millrace/browser";
import { type Context, createContext, useContext } from "react";

/** The client of the nearest provider; undefined when there is none yet. */
export const AnalyticsContext: Context<Millrace | undefined> = createContext<Millrace | undefined>(undefined);

/**
 * The client of the nearest AnalyticsProvider. Undefined outside a provider, on servers, and in the first render under a
 * provider that makes its own client: the component renders again when the client is there.
 */
export function useAnalytics(): Millrace | undefined {
  return useContext(AnalyticsContext);
}
