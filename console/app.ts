// The console: which view is shown, the navigation, and what is said when the server is gone.
import { html, nothing, render } from "lit-html";
import { type Config, readConfig, untilBack } from "./api.ts";
import { setSkew, span, zone } from "./text.ts";
import type { View } from "./view.ts";
import { eventsView } from "./views/events.ts";
import { hostsView } from "./views/hosts.ts";
import { lettersView } from "./views/letters.ts";
import { liveView } from "./views/live.ts";
import { overviewView } from "./views/overview.ts";
import { peopleView } from "./views/people.ts";
import { startView } from "./views/start.ts";
import { whereView } from "./views/where.ts";

const app = document.getElementById("app") as HTMLElement;
const config = await readConfig().catch(
  (): Config => ({ asksForKey: false, gatewayHasKeys: false, canReplay: false, version: "", skewMs: 0 }),
);

setSkew(config.skewMs);

const VIEWS: ReadonlyMap<string, { title: string; view: View }> = new Map([
  ["overview", { title: "Overview", view: overviewView }],
  ["live", { title: "Live", view: liveView }],
  ["events", { title: "Events", view: eventsView }],
  ["people", { title: "People", view: peopleView }],
  ["where", { title: "Where", view: whereView }],
  ["dead-letters", { title: "Dead letters", view: lettersView(config) }],
  ["hosts", { title: "Hosts", view: hostsView }],
  ["start", { title: "Start", view: startView(config) }],
]);
const FIRST = "overview";

let left = new AbortController();
let current = "";
let isGone = false;

function parse(): { name: string; params: URLSearchParams } {
  const [, path = "", query = ""] = /^#\/([^?]*)\??(.*)$/s.exec(location.hash) ?? [];
  return { name: VIEWS.has(path) ? path : FIRST, params: new URLSearchParams(query) };
}

function drawShell(name: string): void {
  const items = [...VIEWS].map(
    ([id, { title }]) => html`<a href="#/${id}" aria-current=${id === name ? "page" : nothing}>${title}</a>`,
  );
  render(
    html`<a class="skip" href="#main" @click=${skip}>Skip to content</a>
      <header class="top">
        <a class="brand" href="#/overview"><img src="console/icon.svg" alt="" width="22" height="22" />Millrace</a>
        <nav aria-label="Views">${items}</nav>
      </header>
      <div class="gone" role="alert" ?hidden=${!isGone}>
        ${isGone ? html`<span class="spinner" aria-hidden="true"></span>The server does not answer. What you see may be old; it is asked again every two seconds.` : nothing}
      </div>
      <main id="main" tabindex="-1"><h1>${VIEWS.get(name)?.title}</h1><div id="view"></div></main>
      <footer>
        <span>Millrace ${config.version}</span><span>Times are in ${zone()}</span>
        ${config.skewMs === 0 ? nothing : html`<span class="warn">This browser's clock is ${span(Math.abs(config.skewMs) / 1000)} ${config.skewMs > 0 ? "behind" : "ahead"}; the server's counts</span>`}
      </footer>`,
    app,
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function show(isSame = false): void {
  const { name, params } = parse();
  left.abort();
  left = new AbortController();
  drawShell(name);
  document.title = `${VIEWS.get(name)?.title} · Millrace`;
  // A root of its own for each view: nothing of the last one is left in it.
  const root = document.createElement("div");
  document.getElementById("view")?.replaceChildren(root);
  const { signal } = left;
  VIEWS.get(name)?.view({
    ...{ root, signal, params },
    replace(next) {
      const query = new URLSearchParams(Object.entries(next).filter(([, value]) => value !== "")).toString();
      history.replaceState(null, "", `#/${name}${query === "" ? "" : `?${query}`}`);
    },
    onGone: () => void waitForServer(signal),
  });
  if (name !== current && current !== "" && !isSame) document.getElementById("main")?.focus();
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  current = name;
}

async function waitForServer(signal: AbortSignal): Promise<void> {
  if (isGone) return;
  isGone = true;
  drawShell(current);
  try {
    await untilBack(signal);
  } catch {
    // The view was left: the next one finds out by itself.
    isGone = false;
    return;
  }
  isGone = false;
  show(true);
}

addEventListener("hashchange", () => show());
show();
