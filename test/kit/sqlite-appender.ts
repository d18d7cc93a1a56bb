// A process that appends to a SQLite log for ever and says which offsets were acknowledged; made to be killed.
// argv: file, topic.

import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";

const [file = "", topic = ""] = process.argv.slice(2);
const log = await createSqliteLog({ file });
await log.createTopics([{ topic, partitions: 1 }]);

async function appendForEver(writer: number): Promise<never> {
  for (let call = 0; ; call++) {
    const records = Array.from({ length: 1 + (call % 20) }, (_, i) => ({
      key: Buffer.from(`key-${writer}`),
      value: Buffer.from(`${writer}/${call}/${i}`),
    }));
    const positions = await log.append(topic, records);
    const lines = positions.map(({ offset }, i) => `${offset} ${records[i]?.value.toString()}\n`);
    process.stdout.write(lines.join(""));
  }
}

await Promise.all([appendForEver(0), appendForEver(1), appendForEver(2)]);
