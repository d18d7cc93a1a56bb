// Pieces of page that several views share: states, fields, tables of somebody else's text.
import { html, nothing, type TemplateResult } from "lit-html";
import { CallError, key } from "./api.ts";
import { clock, count, nowMs, shown } from "./text.ts";

export type Piece = TemplateResult | typeof nothing | string;

/** Somebody else's text: its direction stays within it. */
export function foreign(text: string, max?: number): TemplateResult {
  const visible = shown(text, max);
  return visible === "" ? html`<span class="dim">(empty)</span>` : html`<bdi class="foreign">${visible}</bdi>`;
}

export function loading(what = "Loading"): TemplateResult {
  return html`<div class="state" role="status"><span class="spinner" aria-hidden="true"></span>${what}…</div>`;
}

export function empty(title: string, help: Piece = nothing): TemplateResult {
  return html`<div class="state empty"><strong>${title}</strong><span>${help}</span></div>`;
}

export function failure(error: unknown, retry: () => void): TemplateResult {
  if (error instanceof CallError && error.kind === "key") return keyForm(error.message, retry);
  const { title, text } = wordsOf(error);
  return html`<div class="state failure" role="alert">
    <strong>${title}</strong><span>${shown(text, 400)}</span>
    <button class="button" @click=${retry}>Try again</button>
  </div>`;
}

export function wordsOf(error: unknown): { title: string; text: string } {
  const text = error instanceof Error ? error.message : String(error);
  if (!(error instanceof CallError)) return { title: "The console has a fault", text };
  if (error.kind === "gone") return { title: "No answer", text };
  if (error.kind === "busy") return { title: "Not available right now", text };
  if (error.kind === "foreign") return { title: "This page may not ask", text };
  return { title: "That did not work", text };
}

/** The key goes into this tab's session storage and nowhere else. */
export function keyForm(message: string, done: () => void): TemplateResult {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    key.set(String(new FormData(form).get("key") ?? "").trim());
    done();
  };
  const isWrong = key.get() !== "";
  return html`<form class="state keyform" @submit=${submit} autocomplete="off">
    <strong>${isWrong ? "This key is not accepted" : "This server asks for a key"}</strong>
    <span>STATS_TOKEN or one of SECRET_API_KEYS. It stays in this tab and is forgotten when you close it.</span>
    <label>Key <input name="key" type="password" required autocomplete="off" spellcheck="false" /></label>
    <button class="button primary">Show</button>
    <small class="dim">${shown(message, 300)}</small>
  </form>`;
}

export interface Loaded<T> {
  value: T | undefined;
  error: unknown;
  /** When `value` was read, milliseconds. */
  atMs: number;
}

export function notLoaded<T>(): Loaded<T> {
  return { value: undefined, error: undefined, atMs: 0 };
}

/** What is known, with a note when it could not be read again; else why not, or that it is on its way. */
export function loaded<T>(state: Loaded<T>, retry: () => void, show: (value: T) => Piece): Piece {
  const { value, error, atMs } = state;
  if (value === undefined) return error === undefined ? loading() : failure(error, retry);
  if (error instanceof CallError && error.kind === "key") return failure(error, retry);
  const note =
    error === undefined
      ? nothing
      : html`<p class="note" role="status">As of ${clock(atMs)}. ${shown(wordsOf(error).text, 200)}</p>`;
  return html`${note}${show(value)}`;
}

export function metric(label: string, value: Piece | number, hint: Piece = nothing): TemplateResult {
  const text = typeof value === "number" ? count(value) : value;
  return html`<div class="metric"><dt>${label}</dt><dd>${text}</dd>
    ${hint === nothing ? nothing : html`<dd class="hint">${hint}</dd>`}
  </div>`;
}

export function card(title: string, body: Piece, aside: Piece = nothing): TemplateResult {
  return html`<section class="card">
    <header><h2>${title}</h2><div class="aside">${aside}</div></header>
    ${body}
  </section>`;
}

export const RANGES = { "1h": 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000, "30d": 30 * 86_400_000 } as const;
export type RangeName = keyof typeof RANGES;

export function rangeName(text: string | null): RangeName {
  return text !== null && Object.hasOwn(RANGES, text) ? (text as RangeName) : "24h";
}

export function rangeOf(name: RangeName): { from: string; to: string } {
  const now = nowMs();
  return { from: new Date(now - RANGES[name]).toISOString(), to: new Date(now).toISOString() };
}

export function rangePicker(chosen: RangeName, choose: (name: RangeName) => void): TemplateResult {
  const names = Object.keys(RANGES) as RangeName[];
  return html`<div class="segments" role="group" aria-label="Time range">
    ${names.map((name) => html`<button aria-pressed=${name === chosen} @click=${() => choose(name)}>${name}</button>`)}
  </div>`;
}

export function link(view: string, parameters: Record<string, string>): string {
  const query = new URLSearchParams(parameters).toString();
  return `#/${view}${query === "" ? "" : `?${query}`}`;
}

/** A button that puts text on the clipboard, or selects it where there is none (plain http). */
export function copyButton(text: () => string): TemplateResult {
  const copy = async (event: Event) => {
    const button = event.currentTarget as HTMLButtonElement;
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      // Not allowed, or no secure context: the person copies by hand.
      const block = button.closest(".snippet, .copyable")?.firstElementChild;
      if (block) getSelection()?.selectAllChildren(block);
      button.textContent = "Selected";
    }
    setTimeout(() => {
      button.textContent = label;
    }, 1_500);
  };
  return html`<button class="button small" @click=${copy}>Copy</button>`;
}

/** Somebody else's text that is often needed elsewhere, such as an id, with a button that copies it. */
export function copyable(text: string, shownAs: Piece = foreign(text)): TemplateResult {
  return html`<span class="copyable">${shownAs}${copyButton(() => text)}</span>`;
}
