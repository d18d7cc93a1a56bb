// Dead letters: records that could not be stored, why, and the command that tries again.
import { html, nothing } from "lit-html";
import { type Config, call } from "../api.ts";
import type { DeadLetter, DeadLetters } from "../messages.ts";
import { card, copyable, empty, foreign, link, loaded, type Piece } from "../parts.ts";
import { createReplay } from "../replay.ts";
import { createRows } from "../rows.ts";
import { ago, bytes, count, moment, shown, shownBlock } from "../text.ts";
import { drawer, reading, type View } from "../view.ts";

const PAGE = 100;
const AGAIN_MS = 15_000;
const TEXT_CHARS_MAX = 3_000;

export const lettersView =
  (config: Config): View =>
  (host) => {
    let errorClass = host.params.get("class") ?? "";
    let chosen: DeadLetter | undefined;
    let letters: DeadLetter[] = [];
    let next = "";
    const draw = drawer(host, template);
    const ask = (pageToken: string, signal: AbortSignal) =>
      call<DeadLetters>("EventQueryService/ListDeadLetters", { errorClass, pageSize: PAGE, pageToken }, signal);
    const list = reading(
      host,
      draw,
      async (signal) => {
        const answer = await ask("", signal);
        // Somebody who has gone further back keeps what they see.
        if (letters.length <= PAGE) {
          letters = answer.letters ?? [];
          next = answer.nextPageToken ?? "";
          rows.set(letters);
        }
        return answer;
      },
      { everyMs: AGAIN_MS },
    );
    const more = reading(host, draw, async (signal) => {
      const answer = await ask(next, signal);
      letters = [...letters, ...(answer.letters ?? [])];
      next = answer.nextPageToken ?? "";
      rows.set(letters);
    });
    const rows = createRows<DeadLetter>({
      label: "Dead letters",
      draw,
      keyOf: ({ position }) => position,
      row: (each) =>
        html`<button class="row" aria-pressed=${each === chosen} @click=${() => choose(each)}>
        <span class="time">${moment(each.logTime)}</span><span class="name">${foreign(each.errorClass ?? "", 60)}</span>
        <span class="fill">${shown(each.error ?? "", 200)}</span><span class="dim">${bytes(Number(each.bytes ?? 0))}</span>
      </button>`,
    });

    const replay = createReplay(host, draw, config, () => list.read());

    function choose(each: DeadLetter): void {
      chosen = chosen === each ? undefined : each;
      replay.ask(chosen ? [chosen.position] : []);
      draw();
    }
    function askForShown(): void {
      chosen = undefined;
      replay.ask(letters.map(({ position }) => position));
    }
    function pick(name: string): void {
      errorClass = errorClass === name ? "" : name;
      host.replace({ class: errorClass });
      chosen = undefined;
      replay.ask([]);
      letters = [];
      list.restart();
    }

    function classTable({ classes = [] }: DeadLetters): Piece {
      return html`<table class="table">
      <thead><tr><th>Class</th><th class="num">Letters</th><th>Newest</th></tr></thead>
      <tbody>
        ${classes.map(
          ({ errorClass: name = "", count: n = "0", lastTime }) =>
            html`<tr class=${name === errorClass ? "chosen" : ""}>
              <td><button class="button link" aria-pressed=${name === errorClass} @click=${() => pick(name)}>${foreign(name)}</button></td>
              <td class="num">${count(n)}</td><td class="dim">${ago(lastTime)}</td>
            </tr>`,
        )}
      </tbody>
    </table>`;
    }

    function letterDetail({ position, error = "", text = "", logTime, bytes: length = "0" }: DeadLetter): Piece {
      return html`<dl class="facts">
        <dt>Position</dt><dd class="mono">${copyable(position, html`<a href=${link("where", { id: position })}>${foreign(position)}</a>`)}</dd>
        <dt>On the log since</dt><dd>${moment(logTime, true)}</dd>
        <dt>Length</dt><dd>${count(length)} bytes</dd>
        <dt>Reason</dt><dd>${foreign(error, 2_000)}</dd>
      </dl>
      <div class="json" tabindex="0" role="region" aria-label="Begin of the record"><pre dir="ltr">${shownBlock(text, TEXT_CHARS_MAX)}</pre></div>`;
    }

    function body(answer: DeadLetters): Piece {
      if ((answer.classes ?? []).length === 0) {
        return card(
          "Dead letters",
          empty("No dead letters", "Every record on the log could be stored, or waits to be."),
        );
      }
      const older = html`<button class="button small" @click=${more.read}>Show older ones</button>`;
      const several = html`<button class="button small" @click=${() => askForShown()}>Try these again…</button>`;
      const failed =
        more.state.error === undefined ? nothing : html`<p class="note">${shown(String(more.state.error), 200)}</p>`;
      return html`<div class="grid">
      <div class="w4">${card("By class", classTable(answer))}</div>
      <div class="w8 stack">
        ${card(errorClass === "" ? "Newest" : shown(errorClass, 80), html`${rows.template()}${failed}`, html`${count(letters.length)} shown${next === "" ? nothing : older}${letters.length > 1 ? several : nothing}`)}
        ${replay.template()} ${chosen ? card("Letter", letterDetail(chosen)) : nothing}
      </div>
    </div>`;
    }

    function template(): Piece {
      return loaded(list.state, list.restart, body);
    }

    draw();
    list.read();
  };
