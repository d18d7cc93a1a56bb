// biome-ignore-all lint/performance/noBarrelFile: the package's entry point is made of names alone

// @millrace/react: everything that callers can import.
"use client";

export { AnalyticsCaptureOnViewed, type AnalyticsCaptureOnViewedProps } from "./capture-on-viewed.ts";
export { AnalyticsContext, useAnalytics } from "./context.ts";
export { AnalyticsProvider, type AnalyticsProviderProps } from "./provider.ts";
