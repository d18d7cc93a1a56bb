// PointRecord: encoding and decoding.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type PointRecord, PointRecordSchema } from "#gen/millrace/log/v1/log_pb.ts";
import { PoisonRecordError } from "./record.ts";
import { TIME_US_MAX } from "./time.ts";

/** A measured value on its way to the log: PointRecord's fields as plain data. See log.proto for units. */
export interface LogPoint {
  /** 16 bytes; with `sequence` the point's id. */
  bootId: Uint8Array;
  sequence: number;
  metric: string;
  /** Finite. */
  value: number;
  tags: Readonly<Record<string, string>>;
  timeUs: number;
  receivedUs: number;
  relayId: string;
  collector: string;
}

/** PointRecord bytes. */
export function encodePoint(point: LogPoint): Uint8Array {
  return toBinary(
    PointRecordSchema,
    create(PointRecordSchema, {
      ...point,
      sequence: BigInt(point.sequence),
      timeUs: BigInt(point.timeUs),
      receivedUs: BigInt(point.receivedUs),
    }),
  );
}

/** Throws PoisonRecordError for bytes that cannot become a row. */
export function decodePoint(value: Uint8Array): PointRecord {
  let record: PointRecord;
  try {
    record = fromBinary(PointRecordSchema, value);
  } catch (error) {
    throw new PoisonRecordError("the value is not a PointRecord message", { cause: error });
  }
  if (record.bootId.length !== 16) throw new PoisonRecordError(`the boot id has ${record.bootId.length} bytes, not 16`);
  if (record.metric === "") throw new PoisonRecordError("the metric has no name");
  if (!Number.isFinite(record.value)) throw new PoisonRecordError(`the value is ${record.value}`);
  for (const us of [record.timeUs, record.receivedUs]) {
    if (us < 0n || us > TIME_US_MAX) throw new PoisonRecordError(`the time ${us} us lies outside 1970 to 2299`);
  }
  return record;
}

/** 16 bytes that name the point wherever it is stored: its boot id, the last eight bytes of it XOR the sequence. */
export function pointId({ bootId, sequence }: Pick<PointRecord, "bootId" | "sequence">): Uint8Array {
  const id = Buffer.from(bootId);
  id.writeBigUInt64BE(id.readBigUInt64BE(8) ^ sequence, 8);
  return id;
}
