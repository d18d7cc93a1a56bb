// Clicks, changes and submissions without a line of code. Loaded only when it is asked for.
import { idOf, isHarmless, isOptedOut, looksSecret } from "./sensitive.ts";
import type { AutocaptureConfig, Properties } from "./types.ts";

const FIELDS = ["input", "select", "textarea"];
const CLICKABLE = ["a", "button", "form", "label", ...FIELDS].join(",");
const DOM_EVENTS = ["click", "change", "submit"] as const;
const TEXT_MAX = 256;
const LEVELS_MAX = 5;

/** Listens until the returned function is called. */
export function startAutocapture(config: AutocaptureConfig, capture: (properties: Properties) => void): () => void {
  const listening = new AbortController();
  const onEvent = (event: Event) => {
    const properties = describe(event, config);
    if (properties) capture(properties);
  };
  for (const name of config.domEventAllowlist ?? DOM_EVENTS) {
    document.addEventListener(name, onEvent, { capture: true, passive: true, signal: listening.signal });
  }
  return () => listening.abort();
}

function describe(event: Event, config: AutocaptureConfig): Properties | undefined {
  if (!isUrlAllowed(config)) return undefined;
  // Outside of a shadow root the target is its host.
  const [target] = event.composedPath();
  const element = target instanceof Element ? captured(target, event.type) : undefined;
  if (!element) return undefined;
  const tag = element.localName;
  const { elementAllowlist, cssSelectorAllowlist } = config;
  if (elementAllowlist && !elementAllowlist.some((name) => name.toLowerCase() === tag)) return undefined;
  if (cssSelectorAllowlist && !cssSelectorAllowlist.some((selector) => element.matches(selector))) return undefined;
  for (let each: Element | null = element; each; each = parentOf(each)) {
    const isPartOf = each === element || FIELDS.includes(each.localName);
    if (isOptedOut(each) || (isPartOf && !isHarmless(each))) return undefined;
  }
  const text = config.captureText ? textOf(element) : undefined;
  const id = idOf(element);
  return {
    $event_type: event.type,
    $el_tag_name: tag,
    ...(text && { $el_text: text }),
    ...(id && { $el_id: id }),
    ...(element.classList.length > 0 && { $el_classes: [...element.classList] }),
    $elements_chain: chainOf(element),
  };
}

/** The element an event of this type is about; undefined when it is about none. */
function captured(target: Element, type: string): Element | undefined {
  if (target.localName === "form") return type === "submit" ? target : undefined;
  if (FIELDS.includes(target.localName)) return type === "submit" ? undefined : target;
  return type === "click" && target.closest(CLICKABLE) ? target : undefined;
}

/** Out of shadow roots too. */
function parentOf(element: Element): Element | null {
  const root = element.getRootNode();
  return element.parentElement ?? (root instanceof ShadowRoot ? root.host : null);
}

function isUrlAllowed({ urlAllowlist, urlIgnorelist }: AutocaptureConfig): boolean {
  const { href } = window.location;
  const matches = (pattern: string | RegExp) =>
    typeof pattern === "string" ? href.includes(pattern) : href.search(pattern) >= 0;
  return !urlIgnorelist?.some(matches) && (urlAllowlist?.some(matches) ?? true);
}

/** Its own text, not that of elements inside; what a visitor typed into the page is not part of it. */
function textOf(element: Element): string | undefined {
  if (element.closest(FIELDS.join(",")) || (element as HTMLElement).isContentEditable) return undefined;
  const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
  const text = own.map((node) => node.textContent ?? "").join(" ");
  const clean = text.replace(/\s+/g, " ").trim();
  return looksSecret(clean) ? undefined : clean.slice(0, TEXT_MAX);
}

function chainOf(element: Element): string {
  const levels: string[] = [];
  for (let each: Element | null = element; each && levels.length < LEVELS_MAX; each = parentOf(each)) {
    const id = idOf(each);
    levels.push(`${each.localName}${id && `#${id}`}${[...each.classList].map((name) => `.${name}`).join("")}`);
  }
  return levels.join(" > ");
}
