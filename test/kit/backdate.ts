// A SQLite log whose records arrived earlier than they did: for audits that ask the log when something came.
import { DatabaseSync } from "node:sqlite";

/** Changes the append times of the first topic in `file`, which no process may have open. */
export function backdate(file: string, agoMs: (offset: number) => number): void {
  using database = new DatabaseSync(file);
  const update = database.prepare("UPDATE records_1 SET append_ms = append_ms - ? WHERE log_offset = ?");
  const { n } = database.prepare("SELECT count(*) AS n FROM records_1").get() as { n: number };
  for (let offset = 0; offset < n; offset++) update.run(agoMs(offset), offset);
}
