// React components that a test shows, changes and takes away. Bundled with the packages as npm installs them.
import { AnalyticsCaptureOnViewed, AnalyticsProvider, useAnalytics } from "@millrace/react";
import { useEffect } from "react";

const HALF_OF_IT = { threshold: [0.5] };

/** `spacePx`: how far the elements to be seen are below each other. */
export function App({ spacePx = 0, offer = {}, items = [], ...provider }) {
  return (
    <AnalyticsProvider {...provider}>
      <Visitor />
      <div style={{ height: spacePx }} />
      <AnalyticsCaptureOnViewed
        id="offer"
        name="offer"
        style={{ height: 100 }}
        properties={{ plan: "pro" }}
        observerOptions={HALF_OF_IT}
        {...offer}
      >
        an offer
      </AnalyticsCaptureOnViewed>
      <div style={{ height: spacePx }} />
      <AnalyticsCaptureOnViewed id="list" name="item" trackAllChildren observerOptions={{ threshold: [0, 1] }}>
        {items.length > 0 && items.map((item) => <p key={item}>{item}</p>)}
      </AnalyticsCaptureOnViewed>
    </AnalyticsProvider>
  );
}

function Visitor() {
  const analytics = useAnalytics();
  useEffect(() => {
    window.mounted = (window.mounted ?? 0) + 1;
  }, []);
  useEffect(() => {
    window.analytics = analytics;
  }, [analytics]);
  return (
    <>
      <button id="who" type="button" onClick={() => analytics.identify("ada", { email: "ada@example.com" })}>
        Sign in
      </button>
      <button id="two" type="button" onClick={() => history.pushState({}, "", "/react/two")}>
        Two
      </button>
    </>
  );
}
