import { Speex, type Sound } from "./speex";

let speex: Promise<Speex> | undefined;
let context: AudioContext | undefined;
let stopLast: (() => void) | undefined;

/** loadSpeex fetches libspeex when it is used first. */
export function loadSpeex(): Promise<Speex> {
  speex ??= fetch(new URL("./speex.wasm", import.meta.url))
    .then((answer) => {
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      return answer.arrayBuffer();
    })
    .then((code) => Speex.load(code))
    .catch((err) => {
      speex = undefined; // the next attempt fetches it again
      throw err;
    });
  return speex;
}

/**
 * play plays a sound, and stops the one before. ended is called when it ends or is stopped. The
 * result stops it. The error is NoSound, or that of the connection.
 */
export async function play(file: Uint8Array, ended: () => void): Promise<() => void> {
  context ??= new AudioContext();
  const sound: Sound = (await loadSpeex()).decode(file);
  stopLast?.();
  await context.resume();
  const buffer = context.createBuffer(1, sound.samples.length, sound.rate);
  buffer.copyToChannel(sound.samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.onended = ended;
  source.start();
  const stop = () => source.stop();
  stopLast = stop;
  return stop;
}
