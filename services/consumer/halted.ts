/** The partition cannot go on without somebody's decision; the message ends with the remedy. */
export class PartitionHaltedError extends Error {
  override readonly name = "PartitionHaltedError";
}
