import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { oggPackets } from "../src/sound/ogg";
import { NoSound, Speex, type Sound } from "../src/sound/speex";

const file = (name: string) => new Uint8Array(readFileSync(new URL(name, import.meta.url)));
// One second of a tone of 440 Hz: narrowband, and wideband with three frames a packet.
const tone = file("testdata/tone.spx");
const wide = file("testdata/wide.spx");

let decoder: Speex;
beforeAll(async () => {
  decoder = await Speex.load(file("../src/sound/speex.wasm"));
});

/** pitch returns the frequency of a tone, from how often it crosses zero. */
function pitch({ samples, rate }: Sound): number {
  const middle = samples.subarray(samples.length / 4, (samples.length * 3) / 4);
  let crossings = 0;
  for (let i = 1; i < middle.length; i++) if (middle[i - 1]! < 0 && middle[i]! >= 0) crossings++;
  return (crossings * rate) / middle.length;
}

describe("Speex", () => {
  test.each([["narrowband", tone, 8000], ["wideband", wide, 16000]] as const)(
    "decodes %s", (_, data, rate) => {
      const sound = decoder.decode(data);
      expect(sound.rate).toBe(rate);
      expect(sound.samples.length / rate).toBeCloseTo(1, 0);
      expect(pitch(sound)).toBeGreaterThan(430);
      expect(pitch(sound)).toBeLessThan(450);
    });

  test("decodes one sound after another to the same samples", () => {
    const first = decoder.decode(tone);
    decoder.decode(wide);
    expect(decoder.decode(tone)).toEqual(first);
  });

  test("plays what came of a file that is cut", () => {
    const half = decoder.decode(tone.subarray(0, 700));
    expect(half.samples.length).toBeGreaterThan(1000);
    expect(half.samples.length).toBeLessThan(6000);
  });

  test("refuses what is no Ogg Speex file", () => {
    for (const data of [new Uint8Array(), new Uint8Array(500), tone.subarray(0, 60),
      new TextEncoder().encode("OggS" + "x".repeat(100))])
      expect(() => decoder.decode(data)).toThrow(NoSound);
  });

  test("encodes what it decodes, as phones do", () => {
    const samples = Float32Array.from({ length: 24_000 }, (_, i) =>
      Math.sin((2 * Math.PI * 440 * i) / 8000) / 3);
    const file = decoder.encode(samples);
    const packets = oggPackets(file);
    expect(packets.length).toBe(2 + 150);
    expect(new Set(packets.slice(2).map((p) => p.length))).toEqual(new Set([20]));
    const sound = decoder.decode(file);
    expect(sound.rate).toBe(8000);
    expect(sound.samples.length).toBe(24_000);
    expect(pitch(sound)).toBeGreaterThan(430);
    expect(pitch(sound)).toBeLessThan(450);
    expect(() => decoder.encode(new Float32Array(100))).toThrow(NoSound);
  });

  test("survives broken files", () => {
    let seed = 7;
    const random = (n: number) => ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) >> 8) % n;
    for (let i = 0; i < 300; i++) {
      const broken = (i % 2 ? tone : wide).slice();
      for (let k = 0; k < 8; k++) broken[random(broken.length)] = random(256);
      try {
        decoder.decode(broken);
      } catch (err) {
        expect(err).toBeInstanceOf(NoSound);
      }
    }
  });
});

test("oggPackets joins a packet that continues on the next page", () => {
  const page = (lengths: number[]) => [0x4f, 0x67, 0x67, 0x53, ...new Array(22).fill(0),
    lengths.length, ...lengths, ...new Array(lengths.reduce((a, b) => a + b, 0)).fill(1)];
  const packets = oggPackets(Uint8Array.from([...page([10, 255]), ...page([20, 0, 5])]));
  expect(packets.map((p) => p.length)).toEqual([10, 275, 0, 5]);
});
