// Pieces of SQL about one erasure, bound as {erasure:UUID}. They look the ids up in the tombstone: a person may have more
// of them than a URL takes.

const TOMBSTONE = "erasures FINAL WHERE erasure_id = {erasure:UUID}";
const OF_ERASURE = `FROM ${TOMBSTONE}`;

/** Own person ids of the person. */
export const IDS = `(SELECT arrayJoin(own_person_ids) ${OF_ERASURE})`;

/** True of the positions that the erasure reaches. */
export const BELOW = `(has((SELECT older_epochs ${OF_ERASURE}), log_epoch)
  OR (log_epoch = (SELECT log_epoch ${OF_ERASURE}) AND log_topic = (SELECT log_topic ${OF_ERASURE})
    AND log_offset < (SELECT ends ${OF_ERASURE})[log_partition]))`;

export const POSITION = "log_epoch, log_topic, log_partition, log_offset";

/** Positions with the outcome "erased". */
export const ERASED = `(SELECT ${POSITION} FROM log_outcomes WHERE outcome = 'erased' AND detail = toString({erasure:UUID}))`;

/** Edges that name an id of the person. */
export const EDGES = `kind != 'erased' AND ${BELOW} AND (id IN ${IDS} OR other IN ${IDS})`;

/** The query as somebody can paste it into a ClickHouse client: on one line, with the tombstone named once. */
export function pasted(query: string, erasureId: string): string {
  const tombstone = TOMBSTONE.replace("{erasure:UUID}", `'${erasureId}'`);
  const body = query.replaceAll(TOMBSTONE, "tombstone").replaceAll("toString({erasure:UUID})", `'${erasureId}'`);
  return `WITH tombstone AS (SELECT * FROM ${tombstone}) ${body}`.replace(/\s+/g, " ");
}
