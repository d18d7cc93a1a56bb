// In the browser: what a test calls.
import { StrictMode } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { App } from "./react-app.jsx";

const element = document.querySelector("#root");
let root;

window.show = ({ key, isStrict, ...setup }) => {
  // Effects run twice only where StrictMode is around everything.
  const app = isStrict ? (
    <StrictMode>
      <App {...setup} />
    </StrictMode>
  ) : (
    <App key={key} {...setup} />
  );
  if (root === undefined && element.hasChildNodes()) {
    root = hydrateRoot(element, app);
  } else {
    root ??= createRoot(element);
    root.render(app);
  }
};
window.hide = () => root.unmount();
