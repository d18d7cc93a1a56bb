// A process that uses RudderStack's library for Node with its defaults while its gateway is killed: numbered events before the
// gate and behind it, then one at fault. It would end with an error, were a flush to fail.
import Rudder from "@rudderstack/rudder-sdk-node";

const [, , dataPlaneUrl = "", key = "", gate = "", userId = "", count = ""] = process.argv;
const rudder = new Rudder(key, { dataPlaneUrl });
let failed = 0;

async function send(from: number): Promise<void> {
  for (let n = from; n < from + Number(count); n++) {
    rudder.track({ userId, event: "killed", properties: { client: userId, n } }, (...errors: unknown[]) => {
      if (errors[0] !== undefined) failed++;
    });
  }
  await rudder.flush();
}

await send(0);
await fetch(gate);
await send(Number(count));
rudder.track({ userId, event: "e".repeat(300) });
await rudder.flush();
process.stdout.write(`failed ${failed}\n`);
