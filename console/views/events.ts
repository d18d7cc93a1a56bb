// Events: which names there are, how many came when, which properties they have, and the newest of them.
import { html, nothing } from "lit-html";
import { call } from "../api.ts";
import { createChart } from "../chart.ts";
import { detail, ofStored } from "../detail.ts";
import type { EventNames, Events, Properties, StoredEvent, Trend } from "../messages.ts";
import {
  card,
  empty,
  foreign,
  link,
  loaded,
  type Piece,
  type RangeName,
  rangeName,
  rangeOf,
  rangePicker,
} from "../parts.ts";
import { createRows } from "../rows.ts";
import { ago, count, moment, percent, shown } from "../text.ts";
import { legend, setTrend, totalOf, unitOf } from "../trend.ts";
import { drawer, reading, type View } from "../view.ts";

const DAYS: Record<RangeName, number> = { "1h": 1, "24h": 1, "7d": 7, "30d": 30 };
const SEARCH_PAUSE_MS = 250;
const NAMES_MAX = 500;

export const eventsView: View = (host) => {
  const { params, signal } = host;
  let range = rangeName(params.get("range"));
  let event = params.get("event") ?? "";
  let breakdown = params.get("by") ?? "";
  let search = "";
  let chosen: StoredEvent | undefined;
  let pause: ReturnType<typeof setTimeout> | undefined;
  const draw = drawer(host, template);
  const chart = createChart(signal);
  const rows = createRows<StoredEvent>({
    label: "Newest events",
    draw,
    keyOf: ({ id, logPartition = 0, logOffset = "0" }) => `${id} ${logPartition} ${logOffset}`,
    row: (each) =>
      html`<button class="row" aria-pressed=${each === chosen} @click=${() => choose(each)}>
        <span class="time">${moment(each.time)}</span><span class="name">${foreign(each.event ?? "", 60)}</span>
        <span class="who">${foreign(each.distinctId ?? "", 60)}</span><span class="rest">${shown(each.propertiesJson ?? "", 200)}</span>
      </button>`,
  });

  const names = reading(host, draw, (own) =>
    call<EventNames>(
      "EventQueryService/ListEventNames",
      { range: rangeOf(range), contains: search, limit: NAMES_MAX },
      own,
    ),
  );
  const trend = reading(host, draw, async (own) => {
    const asked = { range: rangeOf(range), event, breakdown };
    const answer = await call<Trend>("EventQueryService/QueryTrend", asked, own);
    setTrend(chart, answer, event === "" ? "All events" : shown(event));
    return answer;
  });
  const properties = reading(host, draw, (own) =>
    call<Properties>("EventQueryService/ListProperties", { event, days: daysOf(range), limit: 200 }, own),
  );
  const newest = reading(host, draw, async (own) => {
    const asked = { range: rangeOf(range), event, pageSize: 200 };
    const answer = await call<Events>("EventQueryService/ListEvents", asked, own);
    rows.set(answer.events ?? []);
    return answer;
  });

  /** Properties of all names are those of a day: which names have them is what one asks next. */
  function daysOf(of: RangeName): number {
    return event === "" ? 1 : DAYS[of];
  }
  function remember(): void {
    host.replace({ event, range: range === "24h" ? "" : range, by: breakdown });
  }
  function choose(each: StoredEvent): void {
    chosen = chosen === each ? undefined : each;
    draw();
  }
  function pick(name: string): void {
    event = name;
    breakdown = "";
    chosen = undefined;
    remember();
    for (const each of [trend, properties, newest]) each.restart();
  }
  function setRange(next: RangeName): void {
    range = next;
    remember();
    for (const each of [names, trend, properties, newest]) each.restart();
  }
  function breakBy(key: string): void {
    breakdown = key;
    remember();
    trend.restart();
  }
  function onSearch({ currentTarget }: Event): void {
    search = (currentTarget as HTMLInputElement).value;
    clearTimeout(pause);
    pause = setTimeout(() => names.read(), SEARCH_PAUSE_MS);
  }

  function nameTable({ names: found = [], totalEvents = "0", totalNames: total = "0" }: EventNames): Piece {
    const totalNames = Number(total);
    if (found.length === 0) {
      return search === ""
        ? empty("No events in this time", html`Choose a longer time, or <a href="#/start">send the first one</a>.`)
        : empty("No name contains this");
    }
    const most = Number(found[0]?.count ?? 1);
    return html`<div class="scroll tallest"><table class="table">
      <thead><tr><th>Name</th><th class="num">Events</th><th class="share">Share</th></tr></thead>
      <tbody>
        <tr><td><button class="button link" aria-pressed=${event === ""} @click=${() => pick("")}>All events</button></td>
          <td class="num">${count(totalEvents)}</td><td></td></tr>
        ${found.map(({ event: name = "", count: n = "0", lastTime }) => {
          const width = `width: ${(100 * Number(n)) / most}%`;
          return html`<tr class=${name === event ? "chosen" : ""}>
            <td><button class="button link" aria-pressed=${name === event} @click=${() => pick(name)} title=${`Newest ${ago(lastTime)}`}>${foreign(name, 80)}</button></td>
            <td class="num">${count(n)}</td>
            <td class="share"><span class="bar" .style=${width}></span></td>
          </tr>`;
        })}
      </tbody>
    </table></div>
    ${totalNames > found.length ? html`<p class="inset dim">The ${count(found.length)} most frequent of ${count(totalNames)}: find others by a part of their name.</p>` : nothing}`;
  }

  function trendCard(): Piece {
    const keys = (properties.state.value?.properties ?? []).map(({ key = "" }) => key);
    const known = keys.includes(breakdown) || breakdown === "" ? keys : [breakdown, ...keys];
    const select = html`<label>Break down by
      <select @change=${(change: Event) => breakBy((change.currentTarget as HTMLSelectElement).value)}>
        <option value="" ?selected=${breakdown === ""}>nothing</option>
        ${known.map((key) => html`<option .value=${key} ?selected=${key === breakdown}>${shown(key, 60)}</option>`)}
      </select></label>`;
    const title = event === "" ? "All events" : shown(event, 80);
    return card(
      title,
      loaded(trend.state, trend.read, (value) =>
        totalOf(value) === 0
          ? empty("Nothing came in this time", "Choose a longer one.")
          : html`${chart.element}${legend(value)}`,
      ),
      html`${trend.state.value ? html`<span>${count(totalOf(trend.state.value))} by ${unitOf(trend.state.value)}</span>` : nothing}${select}`,
    );
  }

  function propertyTable({ properties: found = [], sampledEvents = "0", totalEvents = "0" }: Properties): Piece {
    if (found.length === 0) return empty("No properties");
    const sampled = Number(sampledEvents);
    return html`<div class="scroll" tabindex="0" role="region" aria-label="Properties"><table class="table">
        <thead><tr><th>Property</th><th>Types</th><th class="num">In</th><th>Example</th></tr></thead>
        <tbody>
          ${found.map(
            ({ key = "", types = [], events = "0", exampleJson = "" }) =>
              html`<tr>
                <td><button class="button link" @click=${() => breakBy(key)}>${foreign(key, 60)}</button></td>
                <td class="dim">${types.join(", ")}</td><td class="num">${percent(Number(events), sampled)}</td>
                <td class="mono">${foreign(exampleJson, 60)}</td>
              </tr>`,
          )}
        </tbody></table></div>
      ${sampled < Number(totalEvents) ? html`<p class="note dim">From a sample of ${count(sampled)} of ${count(totalEvents)} events.</p>` : nothing}`;
  }

  function newestList(): Piece {
    if (rows.items.length === 0) return empty("No events in this time");
    return html`${rows.template()}${chosen ? detail(ofStored(chosen)) : nothing}`;
  }

  function template(): Piece {
    return html`<div class="toolbar">
        <input class="grow" type="search" aria-label="Find a name" placeholder="Find a name" @input=${onSearch} />
        ${rangePicker(range, setRange)}
      </div>
      <div class="grid">
        <div class="w4">${card("Names", loaded(names.state, names.read, nameTable), names.state.value ? count(names.state.value.totalNames ?? 0) : nothing)}</div>
        <div class="w8 stack">
          ${trendCard()}
          ${card("Properties", loaded(properties.state, properties.read, propertyTable), event === "" ? "of the last day" : html`<a href=${link("live", { event })}>Watch live</a>`)}
          ${card("Newest", loaded(newest.state, newest.read, newestList))}
        </div>
      </div>`;
  }

  draw();
  for (const each of [names, trend, properties, newest]) each.read();
};
