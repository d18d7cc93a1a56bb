#!/bin/sh
# Sends three events in two requests. Fails when the gateway does not take them.
set -eu

url="${MILLRACE_URL:-http://localhost:8080}"
now="$(date -u +%Y-%m-%dT%H:%M:%SZ)"

# Prints the answer. --fail-with-body makes a refusal an exit status; --retry waits for as long as Retry-After says. What
# is sent again keeps its ids, and so is stored once.
send() {
  curl --silent --show-error --fail-with-body --max-time 10 --retry 3 \
    --header 'content-type: application/json' \
    --header "authorization: Bearer ${MILLRACE_API_KEY:-}" \
    --data-binary @- "$url$1"
  echo
}

new_id() {
  cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen
}

# A batch, the events in the form of proto/millrace/events/v1/events.proto.
send /millrace.events.v1.EventService/Publish <<JSON
{"events":[
  {"id":"$(new_id)","event":"signed_up","distinctId":"ada","source":"curl","time":"$now","properties":{"plan":"pro"}},
  {"id":"$(new_id)","event":"order_paid","distinctId":"ada","source":"curl","time":"$now","value":129.5}
]}
JSON

# One event, flat.
send /events <<JSON
{"id":"$(new_id)","event_type":"page_view","source":"curl","user_id":"ada","created_at":"$now"}
JSON
