// Start: how to send the first event, with this server's own address, and what becomes of it.
import { html, nothing } from "lit-html";
import { type Config, call } from "../api.ts";
import type { Receipt } from "../messages.ts";
import { card, copyButton, failure, foreign, link, type Piece } from "../parts.ts";
import { moment, seconds, shown, span } from "../text.ts";
import { drawer, reading, type View } from "../view.ts";

const AGAIN_MS = 1_000;
const GATEWAY_PORT = 8080;
const KEY = "YOUR_KEY";

export function startView(config: Config): View {
  return (host) => {
    const draw = drawer(host, template);
    const id = newId();
    const gateway = gatewayOf(config);
    const snippets = snippetsOf(gateway, id, config.gatewayHasKeys);
    let chosen = snippets[0]?.name ?? "";
    const receipt = reading(
      host,
      draw,
      async (signal) =>
        (await call<{ receipts?: Receipt[] }>("ReceiptService/Where", { ids: [id] }, signal)).receipts?.[0],
      { everyMs: AGAIN_MS, isDone: (value) => value?.state === "RECEIPT_STATE_STORED" },
    );

    function snippetCard(): Piece {
      const own = snippets.find(({ name }) => name === chosen);
      const tabs = html`<div class="segments" role="group" aria-label="How to send">
        ${snippets.map(({ name }) => html`<button aria-pressed=${name === chosen} @click=${() => pick(name)}>${name}</button>`)}
      </div>`;
      return card(
        "Send an event",
        html`<div class="pad">
          <p>${own?.text}</p>
          ${own?.blocks.map((code) => html`<div class="snippet"><pre dir="ltr">${code}</pre>${copyButton(() => code)}</div>`)}
          ${
            own?.needsKey && !config.gatewayHasKeys
              ? html`<p class="dim">This way needs a key, and this server has none yet: start it with <code>PUBLIC_API_KEYS=${KEY}</code>.</p>`
              : config.gatewayHasKeys
                ? html`<p class="dim">Put one of the server's PUBLIC_API_KEYS in the place of ${KEY}.</p>`
                : nothing
          }
        </div>`,
        tabs,
      );
    }
    function pick(name: string): void {
      chosen = name;
      draw();
    }

    function landing(): Piece {
      const { value, error } = receipt.state;
      if (error !== undefined && value === undefined) return failure(error, receipt.restart);
      const sighting = value?.sightings?.[0];
      const state = (value?.state ?? "").replace("RECEIPT_STATE_", "");
      const refusal = value?.refusals?.[0];
      const step = (isDone: boolean, text: Piece, more: Piece = nothing) =>
        html`<li><span class="dot ${isDone ? "good" : ""}"></span><span>${text} <small class="dim">${more}</small></span></li>`;
      const isOnLog = sighting !== undefined;
      return html`<ol class="steps" aria-live="polite">
          ${isOnLog ? nothing : html`<li><span class="spinner" aria-hidden="true"></span><span>Waiting for the event of the curl line</span></li>`}
          ${refusal && !isOnLog ? html`<li class="bad"><span class="dot bad"></span><span>Refused: ${shown(refusal.field ?? "")} ${shown(refusal.reason ?? "")}</span></li>` : nothing}
          ${step(isOnLog, "Durable on the log", sighting?.appended ? moment(sighting.appended, true) : nothing)}
          ${step(state === "STORED", "Stored in ClickHouse", sighting?.latency ? `${span(seconds(sighting.latency))} after it was received` : nothing)}
        </ol>
        ${state === "STORED" ? html`<p class="pad">There it is. See it <a href="#/live">live</a>, among the <a href=${link("events", { event: "first_event" })}>events</a>, or ask <a href=${link("where", { id })}>where it is</a>.</p>` : nothing}
        <dl class="facts"><dt>Its id</dt><dd class="mono">${foreign(id)}</dd></dl>`;
    }

    function template(): Piece {
      return html`<div class="grid">
        <div class="w8">${snippetCard()}</div>
        <div class="w4">${card("Your first event", landing())}</div>
      </div>`;
    }

    draw();
    receipt.read();
  };
}

interface Snippet {
  name: string;
  text: string;
  blocks: string[];
  needsKey: boolean;
}

function gatewayOf({ gatewayUrl, gatewayPort = GATEWAY_PORT }: Config): string {
  return gatewayUrl ?? `${location.protocol}//${location.hostname}:${gatewayPort}`;
}

function snippetsOf(gateway: string, id: string, hasKeys: boolean): Snippet[] {
  const event = {
    ...{ event_type: "first_event", source: "console", user_id: "you", id, created_at: new Date().toISOString() },
    properties: { plan: "pro" },
  };
  const key = hasKeys ? ` -H 'x-api-key: ${KEY}'` : "";
  return [
    {
      ...{ name: "curl", needsKey: false, text: "In a terminal. The answer comes when the event is durable." },
      blocks: [
        `curl -s ${gateway}/events -H 'content-type: application/json'${key} \\\n  -d '${JSON.stringify(event)}'`,
      ],
    },
    {
      ...{ name: "Node", needsKey: false, text: "Batches, retries and, if you want, a spool on disk." },
      blocks: [
        `import { createClient } from "@millrace/client";

await using client = createClient({ url: "${gateway}"${hasKeys ? `, apiKey: "${KEY}"` : ""} });
await client.publish([{ event: "signed_up", distinctId: "user_123", properties: { plan: "pro" } }]);`,
      ],
    },
    {
      ...{
        name: "Browser",
        needsKey: true,
        text: "For web pages: pageviews, sessions, consent. Name the page's origin in ALLOWED_ORIGINS.",
      },
      blocks: [
        `import millrace from "@millrace/browser";

millrace.init({ apiHost: "${gateway}", apiKey: "${KEY}" });
millrace.capture("signed_up", { plan: "pro" });`,
      ],
    },
    {
      ...{ name: "posthog-js", needsKey: true, text: "A page that uses posthog-js already: only the address changes." },
      blocks: [
        `import posthog from "posthog-js";

posthog.init("${KEY}", { api_host: "${gateway}" });
posthog.capture("signed_up", { plan: "pro" });`,
      ],
    },
  ];
}

/** A random UUID; crypto.randomUUID is missing where the page came by plain http. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
