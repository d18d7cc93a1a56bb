// A component that captures an event when it scrolls into view.
import type { Properties } from "@millrace/browser";
import {
  Children,
  type ComponentPropsWithoutRef,
  createElement,
  type ReactElement,
  type RefObject,
  useEffect,
  useRef,
} from "react";
import { useAnalytics } from "./context.ts";

export interface AnalyticsCaptureOnViewedProps extends ComponentPropsWithoutRef<"div"> {
  /** Sent as `element_name`. */
  name: string;
  /** Of the event, as they are when the element is seen; an `element_name` among them wins. */
  properties?: Properties | undefined;
  /** When the element counts as seen. Default: when a first pixel of it is in the window. */
  observerOptions?: IntersectionObserverInit | undefined;
  /** Wraps each child in a div of its own and captures each, with its position from 0 as `child_index`. Default false. */
  trackAllChildren?: boolean | undefined;
  /** Default `$element_viewed`. */
  eventName?: string | undefined;
  /** A component captures once for each value of it. Default `name`. */
  trackingKey?: string | number | undefined;
}

type Viewing = Pick<AnalyticsCaptureOnViewedProps, "observerOptions"> & {
  eventName: string;
  trackingKey: string | number;
  properties: Properties;
};

/**
 * A div, with all attributes of one, that captures an event when it is first seen; in a browser without
 * IntersectionObserver when it is mounted. Nothing is captured before there is a client.
 */
export function AnalyticsCaptureOnViewed(props: AnalyticsCaptureOnViewedProps): ReactElement {
  const {
    name,
    properties,
    observerOptions,
    trackAllChildren = false,
    eventName = "$element_viewed",
    trackingKey = name,
    children,
    ...attributes
  } = props;
  const viewing = { observerOptions, eventName, trackingKey, properties: { element_name: name, ...properties } };
  if (!trackAllChildren) return createElement(Viewed, { ...viewing, attributes }, children);
  return createElement(
    "div",
    attributes,
    Children.map(children, (child, index) => {
      if (child === null || child === undefined || typeof child === "boolean") return child;
      const own = { element_name: name, ...properties, child_index: index };
      return createElement(Viewed, { ...viewing, properties: own }, child);
    }),
  );
}

function Viewed(props: Viewing & ComponentPropsWithoutRef<"div"> & { attributes?: object }): ReactElement {
  const { observerOptions, eventName, trackingKey, properties, attributes, children } = props;
  const element = useRef<HTMLDivElement>(null);
  useCaptureOnViewed(element, { observerOptions, eventName, trackingKey, properties });
  return createElement("div", { ...attributes, ref: element }, children);
}

function useCaptureOnViewed(element: RefObject<HTMLDivElement | null>, viewing: Viewing): void {
  const analytics = useAnalytics();
  const { trackingKey, observerOptions: { root, rootMargin, threshold } = {} } = viewing;
  // An array written in place is a new one in every render.
  const thresholds = String(threshold ?? 0);
  const captured = useRef(new Set<string | number>());
  const latest = useRef(viewing);
  useEffect(() => {
    latest.current = viewing;
  });

  useEffect(() => {
    if (analytics === undefined || element.current === null || captured.current.has(trackingKey)) return;
    const capture = () => {
      captured.current.add(trackingKey);
      analytics.capture(latest.current.eventName, latest.current.properties);
    };
    if (typeof IntersectionObserver === "undefined") return capture();
    const observer = new IntersectionObserver(
      (entries, { thresholds: [least = 0] }) => {
        // Browsers differ in whether an element below the threshold is intersecting.
        if (!entries.some(({ isIntersecting, intersectionRatio }) => isIntersecting && intersectionRatio >= least))
          return;
        observer.disconnect();
        capture();
      },
      { root: root ?? null, rootMargin: rootMargin ?? "0px", threshold: thresholds.split(",").map(Number) },
    );
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [analytics, element, trackingKey, root, rootMargin, thresholds]);
}
