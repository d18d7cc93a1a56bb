"""A client with its defaults while its gateway is killed: numbered events before the gate and behind it, then one at fault.
Arguments: address, key, gate, library, name of the client, how many events each time."""

import sys
import urllib.request

address, key, gate, library, name, count = sys.argv[1:]
host = f"http://{address}"
count = int(count)
failed = []


def on_error(error, items):
    failed.extend(items)


def posthog(mode):
    from posthog import Posthog

    client = Posthog(key, host=host, capture_mode=mode, on_error=on_error)
    return (lambda event, properties: client.capture(event, distinct_id=name, properties=properties)), client.flush


def segment(client):
    client.write_key = key
    client.on_error = on_error
    return (lambda event, properties: client.track(name, event, properties)), client.flush


def analytics():
    import segment.analytics as client

    client.host = host
    return segment(client)


def rudder():
    import rudderstack.analytics as client

    client.dataPlaneUrl = host
    return segment(client)


libraries = {"v0": lambda: posthog("v0"), "v1": lambda: posthog("v1"), "segment": analytics, "rudder": rudder}
track, flush = libraries[library]()


def send(first):
    for n in range(first, first + count):
        track("killed", {"client": name, "n": n})
    flush()


send(0)
urllib.request.urlopen(gate).read()
send(count)
print("failed", len(failed))
track("e" * 300, {})
flush()
