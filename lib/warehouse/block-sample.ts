// A bounded sample of rows whose texts are long. What a sample of single rows costs is the unpacking of everything around
// them, so whole blocks are taken instead, evenly through every part, and of those single rows.

export interface BlockSample {
  /** One block of so many, and of their rows one of so many. */
  everyBlock: number;
  everyRow: number;
}

export interface SampleBounds {
  /** Blocks that are unpacked, about. */
  blocks: number;
  /** Rows that are looked at, about. */
  rows: number;
}

/** ClickHouse's index_granularity of the tables of events. */
const BLOCK_ROWS = 8_192;

/** For so many rows in scope. A table's rows lie by day, name and person: a sample of one name is one of people. */
export function blockSampleOf(total: number, { blocks, rows }: SampleBounds): BlockSample {
  const everyBlock = Math.max(1, Math.ceil(total / (blocks * BLOCK_ROWS)));
  return { everyBlock, everyRow: Math.max(1, Math.ceil(total / everyBlock / rows)) };
}

/**
 * For PREWHERE. Each part begins elsewhere, or small ones would always be in the sample. Parameters: everyBlock, everyRow.
 */
export const IN_SAMPLE = `(intDiv(_part_offset, ${BLOCK_ROWS}) + cityHash64(_part)) % {everyBlock:UInt64} = 0
  AND cityHash64(uuid) % {everyRow:UInt64} = 0`;
