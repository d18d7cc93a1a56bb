"""PostHog's library for Python with its defaults: host and key alone. Arguments: address, key, capture mode, prefix of ids."""
import sys
from datetime import datetime, timezone

from posthog import Posthog

host, key, mode, prefix = sys.argv[1:]
errors = []
client = Posthog(key, host="http://" + host, capture_mode=mode, on_error=lambda error, items: errors.append(error))
user = prefix + "-user"
at = datetime(2026, 3, 27, 12, 0, 0, 123456, tzinfo=timezone.utc)
client.capture("bought", distinct_id=user, properties={"price": 3.5, "name": "é"}, timestamp=at, groups={"company": prefix})
client.set(distinct_id=user, properties={"plan": "pro"})
client.set_once(distinct_id=user, properties={"from": "ad"})
client.alias(previous_id=prefix + "-anon", distinct_id=user)
client.group_identify("company", prefix, {"size": 3})
print("flag", client.get_feature_flag("beta", user))
client.shutdown()
for error in errors:
    print("error", error)
