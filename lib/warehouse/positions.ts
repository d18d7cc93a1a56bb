// How a place on the log is named in the tables: log_epoch, log_topic, log_partition, log_offset. The audit has words of its own.

/** Parameters: epoch, topic, partition. */
export const OF_PARTITION =
  "log_epoch = {epoch:String} AND log_topic = {topic:String} AND log_partition = {partition:UInt32}";
