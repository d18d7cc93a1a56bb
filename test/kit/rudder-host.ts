// A process that uses RudderStack's library for Node with its defaults: sends what is told to every library, then batches in
// which messages are at fault, and says whether it is still there.
import Rudder from "@rudderstack/rudder-sdk-node";

const [, , dataPlaneUrl = "", key = "", then = ""] = process.argv;
const rudder = new Rudder(key, { dataPlaneUrl });
const userId = "node-rudder";
rudder.identify({ userId, traits: { plan: "pro", seats: 3 } });
rudder.track({
  userId,
  event: "Order Paid",
  properties: { value: 49.9, items: ["a", "é"] },
  timestamp: new Date(then),
});
rudder.page({ userId, category: "Docs", name: "Home", properties: { url: "https://app.example/docs" } });
rudder.screen({ userId, name: "Start" });
rudder.group({ userId, groupId: "acme", traits: { size: 3 } });
rudder.alias({ userId, previousId: `old-${userId}` });
await rudder.flush();
// At fault: a name over the limit, and nothing else in its batch.
rudder.track({ userId, event: "e".repeat(300) });
await rudder.flush();
process.stdout.write("alive\n");
process.exit(0);
