// Starts the page with an analytics provider around it.
import { AnalyticsProvider } from "@millrace/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";

const { VITE_MILLRACE_URL = "http://localhost:8080", VITE_MILLRACE_API_KEY } = import.meta.env;

const root = document.querySelector("#root");
if (root === null) throw new Error("the page has no #root");
createRoot(root).render(
  <StrictMode>
    <AnalyticsProvider
      apiKey={VITE_MILLRACE_API_KEY}
      options={{ apiHost: VITE_MILLRACE_URL, capturePageview: "history_change" }}
    >
      <App />
    </AnalyticsProvider>
  </StrictMode>,
);
