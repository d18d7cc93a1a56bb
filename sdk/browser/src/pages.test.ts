// Views and leaves of a page that is hidden, left, and shown again, over a window of the test's own.
import { afterEach, expect, it, vi } from "vitest";
import { watchPages } from "./pages.ts";

afterEach(() => {
  vi.unstubAllGlobals();
});

function openPage(pageleaves = true) {
  const page = Object.assign(new EventTarget(), {
    location: { href: "https://shop.example/a", host: "shop.example", pathname: "/a" },
    history: { pushState() {}, replaceState() {} },
  });
  const shown = Object.assign(new EventTarget(), { visibilityState: "visible", referrer: "", title: "" });
  vi.stubGlobal("window", page);
  vi.stubGlobal("document", shown);
  const captured: string[] = [];
  const stop = watchPages({
    pageviews: "history_change",
    pageleaves,
    capture: (event) => captured.push(event),
    onLeave: () => captured.push("leave"),
    onReturn: () => captured.push("return"),
  });
  const visibility = (state: "visible" | "hidden") => {
    shown.visibilityState = state;
    shown.dispatchEvent(new Event("visibilitychange"));
  };
  const transition = (type: "pagehide" | "pageshow", persisted: boolean) =>
    page.dispatchEvent(Object.assign(new Event(type), { persisted }));
  return { captured, stop, visibility, transition };
}

it("a page that is restored from the browser's cache is viewed anew: views and leaves pair up", () => {
  const { captured, stop, visibility, transition } = openPage();
  for (let visit = 0; visit < 3; visit++) {
    transition("pagehide", true);
    visibility("hidden");
    visibility("visible");
    transition("pageshow", true);
  }
  transition("pagehide", false);
  const pages = captured.filter((event) => event.startsWith("$"));
  expect(pages).toEqual(Array.from({ length: 4 }, () => ["$pageview", "$pageleave"]).flat());
  stop();
});

it("a page that is shown for the first time is viewed once", () => {
  const { captured, stop, transition } = openPage();
  transition("pageshow", false);
  expect(captured).toEqual(["$pageview"]);
  stop();
});

it("without leaves a restored page is viewed anew as well", () => {
  const { captured, stop, transition } = openPage(false);
  transition("pagehide", true);
  transition("pageshow", true);
  expect(captured).toEqual(["$pageview", "leave", "return", "$pageview"]);
  stop();
});
