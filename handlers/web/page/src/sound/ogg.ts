/** oggPackets returns the packets of an Ogg file. It stops where the file is cut or broken. */
export function oggPackets(file: Uint8Array): Uint8Array[] {
  const packets: Uint8Array[] = [];
  let parts: Uint8Array[] = [];
  let at = 0;
  while (at + 27 <= file.length && isPage(file, at)) {
    const lengths = file.subarray(at + 27, at + 27 + file[at + 26]!);
    if (lengths.length < file[at + 26]!) break;
    let from = at + 27 + lengths.length;
    let to = from;
    for (const length of lengths) {
      to += length;
      if (to > file.length) return packets;
      if (length === 255) continue; // the packet continues
      packets.push(join([...parts, file.subarray(from, to)]));
      parts = [];
      from = to;
    }
    if (to > from) parts.push(file.subarray(from, to));
    at = to;
  }
  return packets;
}

function isPage(file: Uint8Array, at: number): boolean {
  return file[at] === 0x4f && file[at + 1] === 0x67 && file[at + 2] === 0x67 &&
    file[at + 3] === 0x53;
}

function join(parts: Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
