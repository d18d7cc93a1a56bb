// Replays of dead letters from the page: a dry run first, with a secret key that is kept no longer than the view.
import { html, nothing } from "lit-html";
import { type Config, call, key } from "./api.ts";
import type { ReplayAnswer } from "./messages.ts";
import { card, copyButton, type Piece, wordsOf } from "./parts.ts";
import { count, shown } from "./text.ts";
import type { Host } from "./view.ts";

export interface Replay {
  /** Begins with these letters; none: ends. */
  ask(positions: readonly string[]): void;
  template(): Piece;
}

interface Step {
  kind: "running" | "dry run" | "done" | "failed";
  answer?: ReplayAnswer;
  error?: unknown;
}

/** Of one call, as the server takes them. */
const POSITIONS_MAX = 100;
const LINES_SHOWN = 20;

export function createReplay(host: Host, draw: () => void, { canReplay }: Config, onReplayed: () => void): Replay {
  let positions: readonly string[] = [];
  let secret = "";
  let step: Step | undefined;

  async function run(dryRun: boolean): Promise<void> {
    const asked = positions;
    step = { kind: "running" };
    draw();
    let next: Step;
    try {
      const answer = await call<ReplayAnswer>("DeadLetterService/Replay", { positions, dryRun }, host.signal, secret);
      next = { kind: dryRun ? "dry run" : "done", answer };
    } catch (error) {
      if (host.signal.aborted) return;
      next = { kind: "failed", error };
    }
    if (asked !== positions) return;
    step = next;
    if (step.kind === "done") onReplayed();
    draw();
  }

  function submit(event: SubmitEvent): void {
    event.preventDefault();
    secret = String(new FormData(event.currentTarget as HTMLFormElement).get("secret") ?? "").trim() || key.get();
    void run(true);
  }

  const letters = (n: number) => `${count(n)} ${n === 1 ? "letter" : "letters"}`;

  function outcome({ kind, answer = {}, error }: Step): Piece {
    if (kind === "running")
      return html`<p role="status"><span class="spinner inline" aria-hidden="true"></span> Asking…</p>`;
    if (kind === "failed") return html`<p class="bad" role="alert">${shown(wordsOf(error).text, 400)}</p>`;
    const { replayed = 0, stored = 0, notReplayable = 0, failed = 0, lines = [] } = answer;
    const parts = [
      `${letters(replayed)} ${kind === "dry run" ? "would be put on the log again" : "put on the log again"}`,
      ...(stored > 0 ? [`${count(stored)} stored already`] : []),
      ...(notReplayable > 0 ? [`${count(notReplayable)} cannot be stored as they are`] : []),
      ...(failed > 0 ? [`${count(failed)} not taken by the log: try again`] : []),
    ];
    return html`<p role="status"><strong>${parts.join("; ")}.</strong></p>
      <ul class="plain lines mono">
        ${lines.slice(0, LINES_SHOWN).map((line) => html`<li>${shown(line, 400)}</li>`)}
        ${lines.length > LINES_SHOWN ? html`<li class="dim">and ${count(lines.length - LINES_SHOWN)} more</li>` : nothing}
      </ul>
      ${
        kind === "dry run" && replayed > 0
          ? html`<p><button class="button primary" @click=${() => void run(false)}>Replay ${letters(replayed)}</button></p>`
          : nothing
      }`;
  }

  function byHand(): Piece {
    const command = `millrace dead-letters replay ${positions.map((position) => `'${position}'`).join(" ")} --dry-run`;
    return html`<p>
        ${
          canReplay
            ? "From the command line, where fields can be corrected with --set:"
            : "From the command line; from this page it needs SECRET_API_KEYS of the stats service. Without --dry-run it is done."
        }
      </p>
      <div class="snippet"><pre>${shown(command, 400)}</pre>${copyButton(() => command)}</div>`;
  }

  function form(): Piece {
    return html`<form class="toolbar" @submit=${submit} autocomplete="off">
      <label>Secret key
        <input name="secret" type="password" autocomplete="off" spellcheck="false" placeholder=${key.get() === "" ? "" : "this tab's key"} ?required=${key.get() === ""} />
      </label>
      <button class="button" ?disabled=${step?.kind === "running"}>Dry run</button>
    </form>`;
  }

  return {
    ask(next) {
      positions = next.slice(0, POSITIONS_MAX);
      step = undefined;
      draw();
    },
    template() {
      if (positions.length === 0) return nothing;
      return card(
        `Try ${letters(positions.length)} again`,
        html`<div class="pad stack">
          ${canReplay ? html`<div><p>When the cause is gone, the record goes on the log again. A dry run says first what would be done.</p>${form()}</div>` : nothing}
          ${step ? html`<div>${outcome(step)}</div>` : nothing}
          <div>${byHand()}</div>
        </div>`,
      );
    },
  };
}
