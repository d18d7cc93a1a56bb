// Overview: whether events arrive, whether they are stored, whether anything is refused or missing, and what is in them.
import { html, nothing } from "lit-html";
import { call } from "../api.ts";
import { createChart } from "../chart.ts";
import type { EventNames, Status, Trend } from "../messages.ts";
import { card, empty, foreign, link, loaded, metric, type Piece, rangeOf } from "../parts.ts";
import { ago, bytes, clock, count, decimal, percent, seconds, shown, span } from "../text.ts";
import { setTrend, totalOf } from "../trend.ts";
import { drawer, reading, type View } from "../view.ts";

/** Each costs some 25 ms of CPU: together less than 1 % of a core. */
const STATUS_MS = 3_000;
const TREND_MS = 15_000;
const NAMES_MS = 30_000;
const EVENTS_TOPIC = "millrace.events";
const FULL_SHARE = 0.1;

const TONES: Readonly<Record<string, string>> = { SEVERITY_NOTICE: "", SEVERITY_DELAY: "warn", SEVERITY_LOSS: "bad" };

export const overviewView: View = (host) => {
  const draw = drawer(host, template);
  const chart = createChart(host.signal, { isShort: true });
  const status = reading(host, draw, (signal) => call<Status>("StatusService/GetStatus", {}, signal), {
    everyMs: STATUS_MS,
  });
  const trend = reading(
    host,
    draw,
    async (signal) => {
      const answer = await call<Trend>("EventQueryService/QueryTrend", { range: rangeOf("1h") }, signal);
      setTrend(chart, answer, "Events of the last hour");
      return answer;
    },
    { everyMs: TREND_MS },
  );
  const names = reading(
    host,
    draw,
    (signal) => call<EventNames>("EventQueryService/ListEventNames", { range: rangeOf("24h"), limit: 8 }, signal),
    { everyMs: NAMES_MS },
  );

  function headline({ problems = [], time, gaps = [] }: Status): Piece {
    const worst = problems.map(({ severity = "" }) => TONES[severity] ?? "");
    const tone = problems.length === 0 ? "good" : worst.includes("bad") ? "bad" : worst.includes("warn") ? "warn" : "";
    const title =
      problems.length === 0
        ? "All is well"
        : problems.length === 1
          ? "One thing to look at"
          : `${problems.length} things to look at`;
    return html`<section class="card" aria-label="Health">
      <div class="headline"><span class="dot ${tone}"></span>${title}<span class="fill"></span><small class="dim">${time === undefined ? nothing : clock(time)}</small></div>
      ${
        problems.length === 0
          ? nothing
          : html`<ul class="problems">
            ${problems.map(
              ({ severity = "", text = "", remedy = "", since }) =>
                html`<li>
                  <span class="dot ${TONES[severity] ?? ""}"></span>
                  <p>${shown(text, 600)} ${since === undefined ? nothing : html`<small class="dim">since ${clock(since)}</small>`}</p>
                  <p class="remedy">${withCode(shown(remedy, 600))}</p>
                </li>`,
            )}
          </ul>`
      }
      ${gaps.map((gap) => html`<p class="note">${shown(gap, 400)}</p>`)}
    </section>`;
  }

  function arriving(): Piece {
    const events = status.state.value?.topics?.find(({ topic }) => topic === EVENTS_TOPIC);
    const hour = trend.state.value ? totalOf(trend.state.value) : undefined;
    return card(
      "Are events arriving?",
      html`<dl class="metrics">
          ${metric("Coming in", rate(events?.inPerSecond), "mean of 10 s")}
          ${metric("In the last hour", hour === undefined ? "–" : hour)}
        </dl>
        ${loaded(trend.state, trend.read, (value) =>
          totalOf(value) === 0
            ? empty("Nothing in the last hour", html`<a href="#/start">Send the first event</a>`)
            : html`${chart.element}`,
        )}`,
      html`<a href="#/live">Live</a>`,
    );
  }

  function stored({ topics = [] }: Status): Piece {
    return card(
      "Are they stored?",
      html`${topics.map(({ topic = "", storedPerSecond, waiting, behind, newestRow }) => {
        const late = seconds(behind);
        return html`<h3 class="inset">${topic === EVENTS_TOPIC ? "Events" : "Points of hosts"}</h3>
          <dl class="metrics two">
            ${metric("Stored", rate(storedPerSecond), "mean of 10 s")}
            ${metric("Behind", behind === undefined ? "–" : late === 0 ? "none" : span(late), late > 10 ? "the oldest that waits" : nothing)}
            ${metric("Waiting", waiting === undefined ? "–" : Number(waiting))}
            ${metric("Newest row", newestRow === undefined ? "–" : ago(newestRow))}
          </dl>`;
      })}`,
    );
  }

  function lost({ refusals = [], deadLetters = {}, lastVerify }: Status): Piece {
    const proof =
      lastVerify === undefined
        ? "not run yet"
        : lastVerify.isProven
          ? html`<span class="good">nothing missing</span>`
          : html`<span class="bad">${count(lastVerify.missing ?? 0)} missing</span>`;
    return card(
      "Is anything refused or lost?",
      html`<dl class="metrics">
          ${metric(
            "Refused in the last hour",
            refusals.reduce((sum, { lastHour = "0" }) => sum + Number(lastHour), 0),
          )}
          ${metric("Dead letters", Number(deadLetters.total ?? 0), Number(deadLetters.total ?? 0) > 0 ? html`<a href="#/dead-letters">newest ${ago(deadLetters.newest)}</a>` : nothing)}
        </dl>
        ${
          refusals.length === 0
            ? nothing
            : html`<table class="table"><thead><tr><th>Refused because</th><th class="num">Last hour</th><th>Newest</th></tr></thead>
              <tbody>${refusals.map(({ reason = "", lastHour = "0", newest }) => html`<tr><td>${foreign(reason)}</td><td class="num">${count(lastHour)}</td><td class="dim">${ago(newest)}</td></tr>`)}</tbody></table>`
        }
        <dl class="facts"><dt>Last verify</dt><dd>${proof} ${lastVerify?.time === undefined ? nothing : html`<span class="dim">${ago(lastVerify.time)}</span>`}</dd></dl>`,
    );
  }

  function room({ disks = [], versions = [] }: Status): Piece {
    return card(
      "Is there room?",
      html`<dl class="facts">
        ${disks.map(({ name = "", freeBytes = "0", totalBytes = "0" }) => {
          const isFull = Number(freeBytes) < FULL_SHARE * Number(totalBytes);
          return html`<dt>${foreign(name)}</dt><dd class=${isFull ? "bad" : ""}>${bytes(Number(freeBytes))} free of ${bytes(Number(totalBytes))} (${percent(Number(freeBytes), Number(totalBytes))})</dd>`;
        })}
        </dl>
        <h3 class="inset">Versions</h3>
        <dl class="facts">
        ${versions.map(({ part = "", version = "" }) => html`<dt>${foreign(part)}</dt><dd>${foreign(version)}</dd>`)}
      </dl>`,
    );
  }

  function contents(): Piece {
    return card(
      "What is in them?",
      loaded(names.state, names.read, ({ names: found = [], totalEvents = "0" }) =>
        found.length === 0
          ? empty("No events in the last 24 hours")
          : html`<table class="table"><thead><tr><th>Name</th><th class="num">24 hours</th><th class="num">Share</th></tr></thead>
              <tbody>${found.map(
                ({ event = "", count: n = "0" }) =>
                  html`<tr><td><a href=${link("events", { event })}>${foreign(event, 80)}</a></td><td class="num">${count(n)}</td><td class="num dim">${percent(Number(n), Number(totalEvents))}</td></tr>`,
              )}</tbody></table>`,
      ),
      html`<a href="#/events">All events</a>`,
    );
  }

  function template(): Piece {
    return html`<div class="stack">
      ${loaded(status.state, status.restart, headline)}
      <div class="grid">
        <div class="w8 stack">${arriving()}${contents()}</div>
        <div class="w4 stack">
          ${status.state.value ? html`${stored(status.state.value)}${lost(status.state.value)}${room(status.state.value)}` : nothing}
        </div>
      </div>
    </div>`;
  }

  draw();
  for (const each of [status, trend, names]) each.read();
};

function rate(perSecond: number | undefined): string {
  if (perSecond === undefined) return "–";
  return `${perSecond > 0 && perSecond < 10 ? decimal(Math.round(perSecond * 10) / 10) : count(perSecond)}/s`;
}

/** Commands stand between backticks. */
function withCode(text: string): Piece {
  return html`${text.split("`").map((part, n) => (n % 2 === 1 ? html`<code>${part}</code>` : part))}`;
}
