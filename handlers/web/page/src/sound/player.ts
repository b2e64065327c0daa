import { SpeexDecoder, type Sound } from "./speex";

let decoder: Promise<SpeexDecoder> | undefined;
let context: AudioContext | undefined;
let stopLast: (() => void) | undefined;

/** load fetches the decoder when the first sound is played. */
function load(): Promise<SpeexDecoder> {
  decoder ??= fetch(new URL("./speex.wasm", import.meta.url))
    .then((answer) => {
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      return answer.arrayBuffer();
    })
    .then((code) => SpeexDecoder.load(code))
    .catch((err) => {
      decoder = undefined; // the next attempt fetches it again
      throw err;
    });
  return decoder;
}

/**
 * play plays a sound, and stops the one before. ended is called when it ends or is stopped. The
 * result stops it. The error is NoSound, or that of the connection.
 */
export async function play(file: Uint8Array, ended: () => void): Promise<() => void> {
  context ??= new AudioContext();
  const sound: Sound = (await load()).decode(file);
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
