// CityHash128 of version 1.0.2, with which ClickHouse checks its compressed blocks; later versions of CityHash give other
// values. Sums and products are 64 bits wide: BigInt.asUintN lets V8 compute them in registers.

interface Pair {
  low: bigint;
  high: bigint;
}

const K0 = 0xc3a5c85c97cb3127n;
const K1 = 0xb492b66fbe98f273n;
const K2 = 0x9ae16a3b2f90404fn;
const K3 = 0xc949d7c7509e6557n;
const K_MUL = 0x9ddfea08eb382d69n;

/** 16 bytes: the low half first, each half little-endian, as ClickHouse has them before a block. */
export function cityHash128(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { length } = bytes;
  let hash: Pair;
  if (length >= 16) {
    hash = hashWithSeed(view, 16, { low: fetch64(view, 0) ^ K3, high: fetch64(view, 8) });
  } else if (length >= 8) {
    const low = fetch64(view, 0) ^ mul(BigInt(length), K0);
    hash = hashWithSeed(view, length, { low, high: fetch64(view, length - 8) ^ K1 });
  } else {
    hash = hashWithSeed(view, 0, { low: K0, high: K1 });
  }
  const result = new Uint8Array(16);
  const out = new DataView(result.buffer);
  out.setBigUint64(0, hash.low, true);
  out.setBigUint64(8, hash.high, true);
  return result;
}

function add(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(64, a + b);
}

function sub(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(64, a - b);
}

function mul(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(64, a * b);
}

function rotate(value: bigint, shift: bigint): bigint {
  return shift === 0n ? value : BigInt.asUintN(64, (value >> shift) | (value << (64n - shift)));
}

function shiftMix(value: bigint): bigint {
  return value ^ (value >> 47n);
}

function fetch64(view: DataView, at: number): bigint {
  return view.getBigUint64(at, true);
}

function hash16(low: bigint, high: bigint): bigint {
  const a = shiftMix(mul(low ^ high, K_MUL));
  return mul(shiftMix(mul(high ^ a, K_MUL)), K_MUL);
}

/** Of up to 16 bytes from `start` on. */
function hashShort(view: DataView, start: number): bigint {
  const length = view.byteLength - start;
  const size = BigInt(length);
  if (length > 8) {
    const [a, b] = [fetch64(view, start), fetch64(view, start + length - 8)];
    return hash16(a, rotate(add(b, size), size)) ^ b;
  }
  if (length >= 4) {
    const first = BigInt(view.getUint32(start, true));
    return hash16(add(size, first << 3n), BigInt(view.getUint32(start + length - 4, true)));
  }
  if (length === 0) return K2;
  const [a, b, c] = [0, length >> 1, length - 1].map((at) => view.getUint8(start + at)) as [number, number, number];
  const [y, z] = [BigInt(a + (b << 8)), BigInt(length + (c << 2))];
  return mul(shiftMix(mul(y, K2) ^ mul(z, K3)), K2);
}

function hashWithSeed(view: DataView, start: number, seed: Pair): Pair {
  return view.byteLength - start < 128 ? murmur(view, start, seed) : hashLong(view, start, seed);
}

function murmur(view: DataView, start: number, seed: Pair): Pair {
  const end = view.byteLength;
  const length = end - start;
  let { low: a, high: b } = seed;
  let c: bigint;
  let d: bigint;
  if (length <= 16) {
    a = mul(shiftMix(mul(a, K1)), K1);
    c = add(mul(b, K1), hashShort(view, start));
    d = shiftMix(add(a, length >= 8 ? fetch64(view, start) : c));
  } else {
    c = hash16(add(fetch64(view, end - 8), K1), a);
    d = hash16(add(b, BigInt(length)), add(c, fetch64(view, end - 16)));
    a = add(a, d);
    for (let at = start, left = length - 16; left > 0; at += 16, left -= 16) {
      a = mul(a ^ mul(shiftMix(mul(fetch64(view, at), K1)), K1), K1);
      b ^= a;
      c = mul(c ^ mul(shiftMix(mul(fetch64(view, at + 8), K1)), K1), K1);
      d ^= c;
    }
  }
  a = hash16(a, c);
  b = hash16(d, b);
  return { low: a ^ b, high: hash16(b, a) };
}

/** The 56 bytes of state that a long text is folded into. */
class LongState {
  x: bigint;
  y: bigint;
  z: bigint;
  v0: bigint;
  v1: bigint;
  w0: bigint;
  w1: bigint;

  constructor(view: DataView, start: number, seed: Pair) {
    this.x = seed.low;
    this.y = seed.high;
    this.z = mul(BigInt(view.byteLength - start), K1);
    this.v0 = add(mul(rotate(this.y ^ K1, 49n), K1), fetch64(view, start));
    this.v1 = add(mul(rotate(this.v0, 42n), K1), fetch64(view, start + 8));
    this.w0 = add(mul(rotate(add(this.y, this.z), 35n), K1), this.x);
    this.w1 = mul(rotate(add(this.x, fetch64(view, start + 88)), 53n), K1);
  }

  foldV(view: DataView, at: number, a: bigint, b: bigint): void {
    const [first, last] = [add(a, fetch64(view, at)), fetch64(view, at + 24)];
    const turned = rotate(add(add(b, first), last), 21n);
    const sum = add(add(first, fetch64(view, at + 8)), fetch64(view, at + 16));
    this.v0 = add(sum, last);
    this.v1 = add(add(turned, rotate(sum, 44n)), first);
  }

  foldW(view: DataView, at: number, a: bigint, b: bigint): void {
    const [first, last] = [add(a, fetch64(view, at)), fetch64(view, at + 24)];
    const turned = rotate(add(add(b, first), last), 21n);
    const sum = add(add(first, fetch64(view, at + 8)), fetch64(view, at + 16));
    this.w0 = add(sum, last);
    this.w1 = add(add(turned, rotate(sum, 44n)), first);
  }

  fold64(view: DataView, at: number): void {
    const x = mul(rotate(add(add(this.x, this.y), add(this.v0, fetch64(view, at + 16))), 37n), K1) ^ this.w1;
    this.y = mul(rotate(add(add(this.y, this.v1), fetch64(view, at + 48)), 42n), K1) ^ this.v0;
    const z = rotate(this.z ^ this.w0, 33n);
    this.foldV(view, at, mul(this.v1, K1), add(x, this.w0));
    this.foldW(view, at + 32, add(z, this.w1), this.y);
    this.x = z;
    this.z = x;
  }
}

function hashLong(view: DataView, start: number, seed: Pair): Pair {
  const s = new LongState(view, start, seed);
  let at = start;
  for (; view.byteLength - at >= 128; at += 128) {
    s.fold64(view, at);
    s.fold64(view, at + 64);
  }
  s.y = add(s.y, add(mul(rotate(s.w0, 37n), K0), s.z));
  s.x = add(s.x, mul(rotate(add(s.v0, s.z), 49n), K0));
  // The rest in steps of 32 bytes from the end; the last step may reach back into what was folded before.
  const left = view.byteLength - at;
  for (let done = 32; done - 32 < left; done += 32) {
    const from = view.byteLength - done;
    s.y = add(mul(rotate(sub(s.y, s.x), 42n), K0), s.v1);
    s.w0 = add(s.w0, fetch64(view, from + 16));
    s.x = add(mul(rotate(s.x, 49n), K0), s.w0);
    s.w0 = add(s.w0, s.v0);
    s.foldV(view, from, s.v0, s.v1);
  }
  const x = hash16(s.x, s.v0);
  const y = hash16(s.y, s.w0);
  return { low: add(hash16(add(x, s.v1), s.w1), y), high: hash16(add(x, s.w1), add(y, s.v1)) };
}
