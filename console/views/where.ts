// Where is my event: what became of one, by its id or its position on the log.
import { html, nothing } from "lit-html";
import { call } from "../api.ts";
import { json } from "../detail.ts";
import type { Receipt, Sighting } from "../messages.ts";
import { card, copyable, copyButton, empty, foreign, link, loaded, type Piece } from "../parts.ts";
import { moment, seconds, shown, shownBlock, span } from "../text.ts";
import { drawer, reading, type View } from "../view.ts";

const IDS_MAX = 100;
/** An event that waits is asked for again until it has arrived. */
const AGAIN_MS = 1_000;
const ANSWER_CHARS_MAX = 2_000;

const TONES: Readonly<Record<string, string>> = {
  STORED: "good",
  WAITING: "warn",
  DUPLICATE: "good",
  CONFLICT: "bad",
  DEAD_LETTER: "bad",
  ERASED: "",
  LOST: "bad",
  REFUSED: "bad",
  NEVER_SEEN: "warn",
  UNKNOWN: "warn",
};

export const whereView: View = (host) => {
  let text = host.params.get("id") ?? "";
  let ids = idsIn(text);
  const draw = drawer(host, template);
  const receipts = reading(
    host,
    draw,
    async (signal) => (await call<{ receipts?: Receipt[] }>("ReceiptService/Where", { ids }, signal)).receipts ?? [],
    { everyMs: AGAIN_MS, isDone: (found) => !found.some(({ state }) => stateOf(state) === "WAITING") },
  );

  function submit(event: SubmitEvent): void {
    event.preventDefault();
    text = String(new FormData(event.currentTarget as HTMLFormElement).get("ids") ?? "");
    ids = idsIn(text);
    host.replace({ id: ids.length === 1 ? (ids[0] ?? "") : "" });
    if (ids.length === 0) draw();
    else receipts.restart();
  }

  function results(): Piece {
    if (ids.length === 0) {
      return empty(
        "Ask for an event",
        "By the id that it was sent with or was given, or by its position on the log. Several ids: one a line.",
      );
    }
    return loaded(receipts.state, receipts.read, (found) => html`${found.map(receipt)}`);
  }

  function template(): Piece {
    return html`<div class="grid">
      <div class="w4">
        ${card(
          "Where is my event?",
          html`<form class="pad stack" @submit=${submit}>
            <textarea name="ids" aria-label="Ids of events" spellcheck="false" autocomplete="off" placeholder="0192d3c4-…  or  1b2c3d4e:millrace.events:0:17" .value=${text}></textarea>
            <div><button class="button primary">Find</button></div>
          </form>`,
        )}
      </div>
      <div class="w8">${card(ids.length > 1 ? `${ids.length} events` : "Answer", results())}</div>
    </div>`;
  }

  draw();
  if (ids.length > 0) receipts.read();
};

function idsIn(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((id) => id !== ""))].slice(0, IDS_MAX);
}

function stateOf(state: string | undefined): string {
  return (state ?? "").replace("RECEIPT_STATE_", "");
}

function badge(state: string | undefined): Piece {
  const name = stateOf(state);
  return html`<span class="badge ${TONES[name] ?? ""}">${name.toLowerCase().replaceAll("_", " ") || "unknown"}</span>`;
}

function receipt(found: Receipt): Piece {
  const { id = "", state, text = "", sightings = [], refusals = [], gaps = [] } = found;
  return html`<article class="receipt">
    <p>${badge(state)} <span class="mono">${foreign(id)}</span></p>
    <p class="answer">${shownBlock(text, ANSWER_CHARS_MAX)}</p>
    ${sightings.map((each) => sighting(each, sightings.length > 1))}
    ${refusals.map(
      ({ reason = "", field = "", event = "", time }) =>
        html`<p class="refusal dim">Refused ${time === undefined ? "" : moment(time, true)}: ${foreign(event)} · ${foreign(field)} ${shown(reason)}</p>`,
    )}
    ${gaps.map((gap) => html`<p class="warn">${shown(gap, 400)}</p>`)}
  </article>`;
}

function sighting(
  { state, position, received, appended, stored, latency, event, letter, waiting }: Sighting,
  isOneOfMany: boolean,
): Piece {
  const name = event?.event ?? "";
  const fact = (label: string, value: Piece | undefined) =>
    value === undefined ? nothing : html`<dt>${label}</dt><dd>${value}</dd>`;
  const at = (time: string | undefined) => (time === undefined ? undefined : moment(time, true));
  return html`<dl class="facts">
      ${fact("State", isOneOfMany ? badge(state) : undefined)}
      ${fact("Position", position?.name === undefined ? undefined : html`<span class="mono">${copyable(position.name)}</span>`)}
      ${fact("Received", at(received))} ${fact("On the log", at(appended))} ${fact("Stored", at(stored))}
      ${fact("Took", latency === undefined ? undefined : span(seconds(latency)))}
      ${fact("Event", name === "" ? undefined : html`<a href=${link("events", { event: name })}>${foreign(name)}</a>`)}
      ${fact("Distinct id", event?.distinctId ? html`<a href=${link("people", { id: event.distinctId })}>${foreign(event.distinctId)}</a>` : undefined)}
      ${fact("Waits", waiting?.reason ? shown(waiting.reason, 400) : undefined)}
      ${fact("Reason", letter?.reason ? foreign(letter.reason, 1_000) : undefined)}
    </dl>
    ${letter?.replay ? html`<div class="snippet"><pre>${shown(letter.replay, 400)}</pre>${copyButton(() => letter.replay ?? "")}</div>` : nothing}
    ${event?.propertiesJson ? json(event.propertiesJson, event.isCut === true) : nothing}`;
}
