import { loadSpeex } from "./player";
import { recordRate } from "./speex";

/** The longest recording, in seconds. */
export const longestRecording = 60;

/** canRecord reports whether the browser lends a microphone: to pages over https only. */
export function canRecord(): boolean {
  return !!navigator.mediaDevices && typeof AudioWorkletNode !== "undefined";
}

export interface Recorded {
  /** An Ogg Speex file. */
  data: Uint8Array<ArrayBuffer>;
  /** At least 1. */
  seconds: number;
}

/** Recorder records the microphone. */
export class Recorder {
  readonly #stream: MediaStream;
  readonly #context: AudioContext;
  readonly #parts: Float32Array[] = [];
  #length = 0;

  private constructor(stream: MediaStream, context: AudioContext) {
    this.#stream = stream;
    this.#context = context;
  }

  /** start asks for the microphone and begins to record. The error is that of the browser. */
  static async start(): Promise<Recorder> {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const context = new AudioContext({ sampleRate: recordRate });
    const recorder = new Recorder(stream, context);
    try {
      await context.audioWorklet.addModule(new URL("./recorder.worklet.js", import.meta.url));
      const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
      node.port.onmessage = (ev) => recorder.#hear(ev.data as Float32Array);
      context.createMediaStreamSource(stream).connect(node);
      void loadSpeex(); // for the end
    } catch (err) {
      recorder.cancel();
      throw err;
    }
    return recorder;
  }

  #hear(samples: Float32Array) {
    if (this.#length >= longestRecording * recordRate) return;
    this.#parts.push(samples);
    this.#length += samples.length;
  }

  /** seconds returns the length so far. */
  get seconds(): number {
    return this.#length / recordRate;
  }

  /** cancel gives the microphone back. */
  cancel() {
    for (const track of this.#stream.getTracks()) track.stop();
    void this.#context.close();
  }

  /** stop ends the recording and returns it. The error is NoSound when it is too short. */
  async stop(): Promise<Recorded> {
    this.cancel();
    const samples = new Float32Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      samples.set(part, at);
      at += part.length;
    }
    const data = (await loadSpeex()).encode(samples);
    return { data, seconds: Math.max(1, Math.round(samples.length / recordRate)) };
  }
}
