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

/** Packets on a page: phones read a length of one byte for each. */
const perPage = 250;

/**
 * oggFile returns an Ogg file: each of the heads on a page of its own, then the packets. Each
 * packet has less than 255 bytes. samples is the number of samples in a packet.
 */
export function oggFile(heads: Uint8Array[], packets: Uint8Array[], samples: number) {
  const serial = Math.floor(Math.random() * 0xffffffff);
  const pages = heads.map((head, n) => page([head], n === 0 ? 2 : 0, 0, serial, n));
  for (let at = 0; at < packets.length; at += perPage) {
    const some = packets.slice(at, at + perPage);
    const end = at + some.length;
    const flags = end === packets.length ? 4 : 0;
    pages.push(page(some, flags, end * samples, serial, pages.length));
  }
  return join(pages) as Uint8Array<ArrayBuffer>;
}

function page(packets: Uint8Array[], flags: number, position: number, serial: number, n: number) {
  const body = join(packets);
  const out = new Uint8Array(27 + packets.length + body.length);
  const view = new DataView(out.buffer);
  out.set([0x4f, 0x67, 0x67, 0x53, 0, flags]);
  view.setUint32(6, position, true);
  view.setUint32(14, serial, true);
  view.setUint32(18, n, true);
  out[26] = packets.length;
  packets.forEach((p, i) => (out[27 + i] = p.length));
  out.set(body, 27 + packets.length);
  view.setUint32(22, checksum(out), true);
  return out;
}

/** checksum is the CRC of a page, whose own four bytes are 0. Phones check it. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (const b of bytes) {
    sum ^= b << 24;
    for (let i = 0; i < 8; i++) sum = sum & 0x80000000 ? (sum << 1) ^ 0x04c11db7 : sum << 1;
  }
  return sum >>> 0;
}
