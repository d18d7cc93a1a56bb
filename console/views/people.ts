// People: who was seen lately, and of one of them ids, properties and timeline.
import { html, nothing } from "lit-html";
import { call } from "../api.ts";
import { detail, json, ofStored } from "../detail.ts";
import type { Events, Person, PersonEntry, StoredEvent } from "../messages.ts";
import {
  card,
  copyable,
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
import { ago, count, moment, shown } from "../text.ts";
import { drawer, reading, type View } from "../view.ts";

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const SEARCH_PAUSE_MS = 250;
const IDS_SHOWN = 50;

export const peopleView: View = (host) => {
  const { params } = host;
  let search = params.get("id") ?? params.get("person") ?? "";
  let chosen: { personId: string } | { distinctId: string } | undefined = chosenOf(params);
  let range = rangeName(params.get("range") ?? "30d");
  let event: StoredEvent | undefined;
  let pause: ReturnType<typeof setTimeout> | undefined;
  const draw = drawer(host, template);

  const list = reading(host, draw, async (signal) => {
    const asked = { contains: UUID.test(search) ? "" : search, limit: 200 };
    const answer = await call<{ people?: PersonEntry[] }>("EventQueryService/ListPeople", asked, signal);
    people.set(answer.people ?? []);
    return answer;
  });
  const person = reading(host, draw, (signal) => call<Person>("EventQueryService/GetPerson", chosen ?? {}, signal));
  const timeline = reading(host, draw, async (signal) => {
    const asked = {
      range: rangeOf(range),
      pageSize: 200,
      ...(person.state.value ? { personId: person.state.value.personId } : chosen),
    };
    const answer = await call<Events>("EventQueryService/ListEvents", asked, signal);
    events.set(answer.events ?? []);
    return answer;
  });

  const people = createRows<PersonEntry>({
    label: "People",
    draw,
    keyOf: ({ personId, distinctId = "" }) => `${personId} ${distinctId}`,
    row: (each) =>
      html`<button class="row" aria-pressed=${isChosen(each)} @click=${() => choose(each)}>
        <span class="fill">${foreign(each.distinctId ?? "", 100)}</span>
        ${each.isIdentified ? html`<span class="badge good">identified</span>` : nothing}
        <span class="dim">${ago(each.lastTime)}</span>
      </button>`,
  });
  const events = createRows<StoredEvent>({
    label: "Timeline",
    draw,
    keyOf: ({ id, logOffset = "0" }) => `${id} ${logOffset}`,
    row: (each) =>
      html`<button class="row" aria-pressed=${each === event} @click=${() => show(each)}>
        <span class="time">${moment(each.time)}</span><span class="name">${foreign(each.event ?? "", 60)}</span>
        <span class="rest">${shown(each.propertiesJson ?? "", 200)}</span>
      </button>`,
  });

  function isChosen({ distinctId = "", personId }: PersonEntry): boolean {
    if (!chosen) return false;
    return "personId" in chosen ? chosen.personId === personId : chosen.distinctId === distinctId;
  }
  function choose({ distinctId = "", personId }: PersonEntry): void {
    // An id that was cut names nobody.
    chosen = distinctId.endsWith("…") ? { personId } : { distinctId };
    event = undefined;
    remember();
    person.restart();
    timeline.restart();
  }
  function show(each: StoredEvent): void {
    event = event === each ? undefined : each;
    draw();
  }
  function remember(): void {
    const named: Record<string, string> = chosen
      ? "personId" in chosen
        ? { person: chosen.personId }
        : { id: chosen.distinctId }
      : {};
    host.replace({ ...named, range: range === "30d" ? "" : range });
  }
  function setRange(next: RangeName): void {
    range = next;
    remember();
    timeline.restart();
  }
  function onSearch({ currentTarget }: Event): void {
    search = (currentTarget as HTMLInputElement).value.trim();
    clearTimeout(pause);
    pause = setTimeout(find, SEARCH_PAUSE_MS);
  }
  function find(): void {
    if (UUID.test(search)) {
      chosen = { personId: search };
      person.restart();
      timeline.restart();
    }
    list.read();
  }

  function peopleList(): Piece {
    if (people.items.length > 0) return people.template();
    return search === ""
      ? empty("Nobody yet", html`People come with events that have a distinct id. <a href="#/start">Send one</a>.`)
      : empty("Nobody found", "Search by a part of a distinct id, or by a whole id that only events carry.");
  }

  function personCard(): Piece {
    if (!chosen) return card("Person", empty("Choose somebody", "Their ids, properties and events are shown here."));
    const watched = "distinctId" in chosen ? chosen.distinctId : person.state.value?.distinctIds?.[0];
    return card(
      "Person",
      loaded(
        person.state,
        person.read,
        ({ personId, distinctIds = [], isIdentified, propertiesJson = "", firstTime }) => {
          const ids = distinctIds.slice(0, IDS_SHOWN);
          return html`<dl class="facts">
            <dt>Person id</dt><dd class="mono">${copyable(personId)}</dd>
            <dt>Distinct ids</dt>
            <dd>${ids.length === 0 ? html`<span class="dim">none that an identity fact names</span>` : ids.map((id) => html`<div>${copyable(id)}</div>`)}
              ${distinctIds.length > IDS_SHOWN ? html`<div class="dim">and ${count(distinctIds.length - IDS_SHOWN)} more</div>` : nothing}</dd>
            <dt>Identified</dt><dd>${isIdentified ? "yes" : "no"}</dd>
            ${firstTime === undefined ? nothing : html`<dt>First seen</dt><dd>${moment(firstTime)}</dd>`}
          </dl>
          ${json(propertiesJson)}`;
        },
      ),
      watched === undefined ? nothing : html`<a href=${link("live", { id: watched })}>Watch live</a>`,
    );
  }

  function timelineCard(): Piece {
    if (!chosen) return nothing;
    const list = (): Piece =>
      events.items.length === 0
        ? empty("No events in this time", "Choose a longer one.")
        : html`${events.template()}${event ? detail(ofStored(event)) : nothing}`;
    return card("Timeline", loaded(timeline.state, timeline.read, list), rangePicker(range, setRange));
  }

  function template(): Piece {
    return html`<div class="toolbar">
        <input class="grow" type="search" aria-label="Find a person" placeholder="Distinct id or person id" .value=${search} @input=${onSearch} />
      </div>
      <div class="grid">
        <div class="w5">${card(search === "" ? "Seen lately" : "Found", loaded(list.state, list.read, peopleList))}</div>
        <div class="w7 stack">${personCard()}${timelineCard()}</div>
      </div>`;
  }

  draw();
  list.read();
  if (chosen) {
    person.read();
    timeline.read();
  }
};

function chosenOf(params: URLSearchParams): { personId: string } | { distinctId: string } | undefined {
  const person = params.get("person");
  if (person !== null) return { personId: person };
  const id = params.get("id");
  return id === null || id === "" ? undefined : { distinctId: id };
}
