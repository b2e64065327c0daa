import { oggPackets } from "./ogg";

/** Sound is a decoded sound. */
export interface Sound {
  samples: Float32Array<ArrayBuffer>;
  /** Samples a second. */
  rate: number;
}

interface Decoder {
  memory: WebAssembly.Memory;
  _initialize(): void;
  begin(mode: number): number;
  packet(): number;
  samples(): number;
  read(size: number): void;
  decode(): number;
}

/** The error of a sound that is no Ogg Speex file. */
export class NoSound extends Error {}

/** The longest sound that is decoded, in seconds. */
const longest = 600;
const largestPacket = 2048;

/** SpeexDecoder decodes Ogg Speex files, the sounds of phones. */
export class SpeexDecoder {
  readonly #wasm: Decoder;

  private constructor(wasm: Decoder) {
    this.#wasm = wasm;
  }

  /** load compiles the decoder. code is the content of speex.wasm. */
  static async load(code: BufferSource): Promise<SpeexDecoder> {
    const { instance } = await WebAssembly.instantiate(code, {});
    const wasm = instance.exports as unknown as Decoder;
    wasm._initialize();
    return new SpeexDecoder(wasm);
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
