// One event with all that is known of it.
import { html, nothing, type TemplateResult } from "lit-html";
import type { EventView, StoredEvent } from "./messages.ts";
import { copyable, foreign, link, type Piece } from "./parts.ts";
import { decimal, moment, prettyJson, shownBlock } from "./text.ts";

const JSON_CHARS_MAX = 20_000;

export interface Detail extends Omit<EventView, "isCut"> {
  isCut?: boolean | undefined;
  received?: string | undefined;
  position?: string | undefined;
  /** More rows of the list of facts. */
  more?: Piece;
}

export function ofStored(event: StoredEvent): Detail {
  return {
    ...event,
    received: event.receiveTime,
    position: `partition ${event.logPartition ?? 0}, offset ${event.logOffset ?? 0}`,
  };
}

export function detail(event: Detail): TemplateResult {
  const { id = "", distinctId = "", source = "", value, time, received, position } = event;
  return html`<dl class="facts">
      <dt>Event</dt>
      <dd><a href=${link("events", { event: event.event ?? "" })}>${foreign(event.event ?? "")}</a></dd>
      <dt>Id</dt>
      <dd>${copyable(id, html`<a class="mono" href=${link("where", { id })}>${foreign(id)}</a>`)}</dd>
      <dt>Distinct id</dt>
      <dd>${distinctId === "" ? html`<span class="dim">none</span>` : copyable(distinctId, html`<a href=${link("people", { id: distinctId })}>${foreign(distinctId)}</a>`)}</dd>
      ${time === undefined ? nothing : html`<dt>Time</dt><dd>${moment(time, true)}</dd>`}
      ${received === undefined ? nothing : html`<dt>Received</dt><dd>${moment(received, true)}</dd>`}
      ${source === "" ? nothing : html`<dt>Source</dt><dd>${foreign(source)}</dd>`}
      ${value === undefined ? nothing : html`<dt>Value</dt><dd>${typeof value === "number" ? decimal(value) : value}</dd>`}
      ${position === undefined ? nothing : html`<dt>Log</dt><dd>${foreign(position)}</dd>`}
      ${event.more ?? nothing}
    </dl>
    ${json(event.propertiesJson ?? "", event.isCut === true)}`;
}

/** Somebody else's JSON, with line breaks. */
export function json(text: string, isCut = false): TemplateResult {
  if (text === "" || text === "{}") return html`<p class="pad dim">No properties.</p>`;
  return html`<div class="json" tabindex="0" role="region" aria-label="Properties as JSON">
    <pre dir="ltr">${shownBlock(prettyJson(text.slice(0, JSON_CHARS_MAX)), JSON_CHARS_MAX)}</pre>
    ${isCut ? html`<small class="dim">Cut: the whole of it is in ClickHouse.</small>` : nothing}
  </div>`;
}
