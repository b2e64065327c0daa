import { oggFile, oggPackets } from "./ogg";

/** Sound is a decoded sound. */
export interface Sound {
  samples: Float32Array<ArrayBuffer>;
  /** Samples a second. */
  rate: number;
}

interface Code {
  memory: WebAssembly.Memory;
  _initialize(): void;
  begin(mode: number): number;
  packet(): number;
  samples(): number;
  read(size: number): void;
  decode(): number;
  record(quality: number): number;
  encode(): number;
}

/** The error of a sound that is no Ogg Speex file. */
export class NoSound extends Error {}

/** The longest sound that is decoded, in seconds. */
const longest = 600;
const largestPacket = 2048;

/** Speex decodes and encodes Ogg Speex files, the sounds of phones. */
export class Speex {
  readonly #wasm: Code;

  private constructor(wasm: Code) {
    this.#wasm = wasm;
  }

  /** load compiles libspeex. code is the content of speex.wasm. */
  static async load(code: BufferSource): Promise<Speex> {
    const { instance } = await WebAssembly.instantiate(code, {});
    const wasm = instance.exports as unknown as Code;
    wasm._initialize();
    return new Speex(wasm);
  }

  /** decode decodes a file. The error is NoSound. */
  decode(file: Uint8Array): Sound {
    const packets = oggPackets(file);
    const head = header(packets[0]);
    const size = this.#wasm.begin(head.mode);
    if (!size) throw new NoSound(`mode ${head.mode}`);
    const most = Math.floor((longest * head.rate) / size);
    const frames: Int16Array[] = [];
    for (const packet of packets.slice(2 + head.extra)) {
      if (packet.length > largestPacket) throw new NoSound(`a packet of ${packet.length} bytes`);
      new Uint8Array(this.#wasm.memory.buffer, this.#wasm.packet(), packet.length).set(packet);
      this.#wasm.read(packet.length);
      for (let i = 0; i < head.frames && frames.length < most; i++) {
        if (this.#wasm.decode() !== 0) break;
        frames.push(new Int16Array(this.#wasm.memory.buffer, this.#wasm.samples(), size).slice());
      }
    }
    if (!frames.length) throw new NoSound("no frame");
    const samples = new Float32Array(frames.length * size);
    frames.forEach((f, n) => f.forEach((v, i) => (samples[n * size + i] = v / 32768)));
    return { samples, rate: head.rate };
  }

  /** encode returns a file as phones record it. samples are at recordRate, from -1 to 1. */
  encode(samples: Float32Array): Uint8Array<ArrayBuffer> {
    const size = this.#wasm.record(quality);
    const packets: Uint8Array[] = [];
    for (let at = 0; at + size <= samples.length; at += size) {
      const frame = new Int16Array(this.#wasm.memory.buffer, this.#wasm.samples(), size);
      for (let i = 0; i < size; i++)
        frame[i] = Math.round(Math.max(-1, Math.min(1, samples[at + i]!)) * 32767);
      const length = this.#wasm.encode();
      packets.push(new Uint8Array(this.#wasm.memory.buffer, this.#wasm.packet(), length).slice());
    }
    if (!packets.length) throw new NoSound("shorter than a frame");
    return oggFile([recordHeader(size), comments()], packets, size);
  }
}

/** Samples a second of a recording: narrowband. */
export const recordRate = 8000;
/** 20 bytes for each frame of 20 ms. */
const quality = 4;

function recordHeader(frame: number): Uint8Array {
  const out = new Uint8Array(80);
  const view = new DataView(out.buffer);
  out.set(new TextEncoder().encode("Speex   1.2.1"));
  const fields = [1, 80, recordRate, 0, 4, 1, -1, frame, 0, 1];
  fields.forEach((value, i) => view.setInt32(28 + 4 * i, value, true));
  return out;
}

/** comments returns the second packet. Without it phones lose the first packet of the sound. */
function comments(): Uint8Array {
  const vendor = new TextEncoder().encode("TeamTalk");
  const out = new Uint8Array(vendor.length + 8);
  new DataView(out.buffer).setUint32(0, vendor.length, true);
  out.set(vendor, 4);
  return out;
}

interface Header {
  rate: number;
  mode: number;
  /** Frames in a packet. */
  frames: number;
  /** Packets between the comments and the sound. */
  extra: number;
}

function header(packet: Uint8Array | undefined): Header {
  const magic = packet && String.fromCharCode(...packet.subarray(0, 8));
  if (!packet || magic !== "Speex   " || packet.length < 80) throw new NoSound("no Speex header");
  const view = new DataView(packet.buffer, packet.byteOffset);
  const number = (at: number) => view.getUint32(at, true);
  const rate = number(36);
  if (rate < 6000 || rate > 48000) throw new NoSound(`${rate} samples a second`);
  if (number(48) > 1) throw new NoSound(`${number(48)} channels`);
  return { rate, mode: number(40), frames: Math.min(Math.max(1, number(64)), 10),
    extra: Math.min(number(68), 16) };
}
