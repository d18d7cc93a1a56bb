"""What programs with Segment's and RudderStack's packages for Python send: host and key are told, nothing else."""

import datetime
import sys

import rudderstack.analytics as rudder
import segment.analytics as segment

host = f"http://{sys.argv[1]}"
key = "segment-key"
then = datetime.datetime(2026, 3, 27, 12, 0, 0, 250000, tzinfo=datetime.timezone.utc)

for name, client in (("segment", segment), ("rudder", rudder)):
    failures = []
    client.write_key = key
    if name == "segment":
        client.host = host
    else:
        client.dataPlaneUrl = host
    client.on_error = lambda error, items: failures.append(error)
    user = f"py-{name}"
    client.identify(user, {"plan": "pro", "seats": 3})
    client.track(user, "Order Paid", {"value": 49.9, "items": ["a", "é"]}, timestamp=then, anonymous_id=f"anon-{user}")
    client.page(user, "Docs", "Home", {"url": "https://app.example/docs"})
    client.screen(user, "App", "Start")
    client.group(user, "acme", {"size": 3})
    client.alias(f"old-{user}", user)
    client.flush()
    print(name, failures)
