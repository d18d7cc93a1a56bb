// Live: events as they reach the log, whether they are stored yet.
import { html, nothing } from "lit-html";
import { CallError, stream, wait } from "../api.ts";
import { detail } from "../detail.ts";
import type { TailEvent, TailMessage } from "../messages.ts";
import { card, empty, failure, foreign, loading, type Piece } from "../parts.ts";
import { createRows } from "../rows.ts";
import { clock, count, shown } from "../text.ts";
import { drawer, untilVisible, type View } from "../view.ts";

const KEPT_MAX = 2_000;
const PER_SECOND = 1_000;
const RECENT = 100;
/** Rows are put in place so often, however fast events come. */
const FLUSH_MS = 150;
const AGAIN_MS = 2_000;

interface Shown extends TailEvent {
  isStored: boolean;
}

export const liveView: View = (host) => {
  const { params, signal } = host;
  let filter = { event: params.get("event") ?? "", id: params.get("id") ?? "", where: params.get("where") ?? "" };
  let chosen: Shown | undefined;
  let isPaused = false;
  let status: TailMessage["status"];
  let error: unknown;
  let pending: Shown[] = [];
  let held = 0;
  let isFresh = false;
  let turn = new AbortController();
  const storedUpTo = new Map<number, number>();
  const draw = drawer(host, template);
  const rows = createRows<Shown>({
    label: "Events as they come",
    draw,
    keyOf: ({ position }) => position?.name ?? "",
    row: (each) =>
      html`<button class="row" aria-pressed=${each === chosen} @click=${() => choose(each)}>
        <span class="time">${clock(each.appended ?? each.received ?? 0, true)}</span>
        <span class="name">${foreign(each.event?.event ?? "", 60)}</span>
        <span class="who">${foreign(each.event?.distinctId ?? "", 60)}</span>
        <span class="rest">${shown(each.event?.propertiesJson ?? "", 200)}</span>
        <span class="mark">${storedMark(each)}</span>
      </button>`,
  });

  function isStored({ isStored: was, position }: Shown): boolean {
    return was || Number(position?.offset ?? 0) < (storedUpTo.get(position?.partition ?? 0) ?? 0);
  }
  function storedMark(each: Shown): Piece {
    return isStored(each) ? html`<span class="good">stored</span>` : html`<span class="dim">on the log</span>`;
  }
  function choose(each: Shown): void {
    chosen = chosen === each ? undefined : each;
    draw();
  }

  function take(message: TailMessage): void {
    if (message.status) status = message.status;
    for (const { partition = 0, nextOffset = "0" } of message.stored ?? [])
      storedUpTo.set(partition, Number(nextOffset));
    for (const event of message.events ?? []) pending.push({ ...event, isStored: event.isStored === true });
    // Beyond what is kept nobody would see them.
    if (pending.length > KEPT_MAX) pending = pending.slice(-KEPT_MAX);
    error = undefined;
    isFresh = true;
  }
  function flush(): void {
    if (!isFresh) return;
    isFresh = false;
    if (isPaused) held = pending.length;
    else if (pending.length > 0) {
      const fresh = pending.reverse();
      pending = [];
      rows.prepend(fresh, KEPT_MAX);
    }
    draw();
  }

  async function follow(own: AbortSignal, recent: number): Promise<void> {
    const asked = { ...requestOf(filter), eventsPerSecond: PER_SECOND, recent };
    while (!own.aborted) {
      try {
        await untilVisible(own);
        await stream<TailMessage>("TailService/Tail", asked, own, take);
      } catch (failed) {
        if (own.aborted) return;
        error = failed;
        draw();
        const kind = failed instanceof CallError ? failed.kind : "failed";
        if (kind === "gone") host.onGone();
        if (kind !== "gone" && kind !== "busy") return;
        await wait(AGAIN_MS, own).catch(() => {});
        asked.recent = 0;
      }
    }
  }
  function begin(): void {
    error = undefined;
    status = undefined;
    pending = [];
    chosen = undefined;
    rows.set([]);
    resume(RECENT);
  }
  function resume(recent: number): void {
    turn.abort();
    turn = new AbortController();
    void follow(AbortSignal.any([signal, turn.signal]), recent);
  }
  /** What nobody looks at is not sent. */
  function onVisibility(): void {
    if (document.visibilityState === "hidden") turn.abort();
    else if (turn.signal.aborted) resume(0);
  }

  function submit(event: SubmitEvent): void {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const field = (name: string) => String(form.get(name) ?? "").trim();
    filter = { event: field("event"), id: field("id"), where: field("where") };
    host.replace(filter);
    begin();
  }
  function pause(): void {
    isPaused = !isPaused;
    isFresh = true;
    flush();
  }

  function statusLine(): Piece {
    if (!status) return html`<span>Connecting…</span>`;
    const { state = "", reason = "", passedOver = "0" } = status;
    const isLive = state === "WATCH_STATE_LIVE";
    const sampled =
      passedOver === "0" ? nothing : html`<span class="warn">${count(passedOver)} more came than are shown</span>`;
    return html`${sampled}<span><span class="dot ${isLive ? "good" : "warn"}"></span> ${isLive ? "Live" : reason === "" ? "Connecting" : shown(reason, 200)}</span>`;
  }

  function list(): Piece {
    if (rows.items.length > 0) return html`<div class="taller">${rows.template()}</div>`;
    if (error !== undefined) return failure(error, begin);
    if (!status) return loading("Connecting");
    const isFiltered = Object.values(filter).some((text) => text !== "");
    return isFiltered
      ? empty("Nothing that fits has come yet", "Events show here as soon as they reach the log.")
      : empty(
          "Waiting for the first event",
          html`Events show here as soon as they reach the log. <a href="#/start">Send one</a>.`,
        );
  }

  function template(): Piece {
    const held_ = isPaused && held > 0 ? html`<span>${count(held)} held back</span>` : nothing;
    return html`<form class="toolbar" @submit=${submit}>
        <input class="grow" name="event" aria-label="Event name" placeholder="Event name" .value=${filter.event} />
        <input class="grow" name="id" aria-label="Distinct id" placeholder="Distinct id" .value=${filter.id} />
        <input class="grow" name="where" aria-label="Property" placeholder="Property, such as plan=pro" .value=${filter.where} />
        <button class="button">Filter</button>
        <button class="button" type="button" aria-pressed=${isPaused} @click=${pause}>${isPaused ? "Go on" : "Pause"}</button>
      </form>
      <div class="grid">
        <div class=${chosen ? "w8" : ""}>${card("Events", list(), html`${held_}${statusLine()}`)}</div>
        ${chosen ? html`<div class="w4">${card("Event", detail(detailOf(chosen)))}</div>` : nothing}
      </div>`;
  }

  function detailOf(each: Shown) {
    const more = html`<dt>State</dt><dd>${storedMark(each)}</dd>`;
    return { ...each.event, received: each.received, position: each.position?.name, more };
  }

  draw();
  const timer = setInterval(flush, FLUSH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  document.addEventListener("visibilitychange", onVisibility, { signal });
  begin();
};

function requestOf({ event, id, where }: { event: string; id: string; where: string }) {
  const at = where.indexOf("=");
  return {
    events: event === "" ? [] : [event],
    distinctIds: id === "" ? [] : [id],
    where:
      where === "" ? [] : [{ key: at < 0 ? where : where.slice(0, at), values: [at < 0 ? "" : where.slice(at + 1)] }],
  };
}
