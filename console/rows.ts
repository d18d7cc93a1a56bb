// A long list of which only what can be seen is on the page. Rows have one height; newest first.
import { html, type TemplateResult } from "lit-html";
import { repeat } from "lit-html/directives/repeat.js";

export interface Rows<T> {
  readonly items: readonly T[];
  template(): TemplateResult;
  set(items: readonly T[]): void;
  /** Before the others. Somebody who has scrolled down goes on seeing the same rows. */
  prepend(items: readonly T[], most: number): void;
}

export interface RowsOptions<T> {
  label: string;
  keyOf(item: T): string;
  row(item: T): TemplateResult;
  draw(): void;
}

const ROW_PX = 32;
const MARGIN_ROWS = 8;
const FALLBACK_PX = 460;

export function createRows<T>({ label, keyOf, row, draw }: RowsOptions<T>): Rows<T> {
  let items: readonly T[] = [];
  let top = 0;
  let element: HTMLElement | undefined;

  function onScroll(event: Event): void {
    element = event.currentTarget as HTMLElement;
    top = element.scrollTop;
    draw();
  }

  /** Arrows go from row to row, as in any list. */
  function onKey(event: KeyboardEvent): void {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const own = (event.target as HTMLElement).closest("li");
    const next = event.key === "ArrowDown" ? own?.nextElementSibling : own?.previousElementSibling;
    const button = next?.querySelector<HTMLElement>(".row");
    if (!button) return;
    event.preventDefault();
    button.focus();
  }

  return {
    get items() {
      return items;
    },
    template() {
      const height = element?.clientHeight || FALLBACK_PX;
      const from = Math.max(0, Math.floor(top / ROW_PX) - MARGIN_ROWS);
      const seen = items.slice(from, from + Math.ceil(height / ROW_PX) + 2 * MARGIN_ROWS);
      return html`<div class="rows" tabindex="0" role="region" aria-label=${label} @scroll=${onScroll} @keydown=${onKey}>
        <ul class="window plain" .style=${`height: ${items.length * ROW_PX}px; padding-top: ${from * ROW_PX}px`}>
          ${repeat(seen, keyOf, (item) => html`<li>${row(item)}</li>`)}
        </ul>
      </div>`;
    },
    set(next) {
      items = next;
      draw();
    },
    prepend(more, most) {
      items = [...more, ...items].slice(0, most);
      if (element && top > 0) {
        top += more.length * ROW_PX;
        element.scrollTop = top;
      }
      draw();
    },
  };
}
