/** The header of a PDU: 16 bytes, all numbers in big-endian order. */
export const headerSize = 16;

export interface PDU {
  command: number;
  /** Chosen by the sender of a request, repeated in its answer; 0 in what the server sends. */
  seq: number;
  /** A view of the bytes that were decoded. */
  body: Uint8Array;
}

/** encodePDU returns the bytes of a PDU: one WebSocket message. */
export function encodePDU(command: number, seq: number, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(headerSize + body.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, out.length);
  view.setUint16(4, 1);
  view.setUint16(8, command >> 8);
  view.setUint16(10, command);
  view.setUint16(12, seq);
  out.set(body, headerSize);
  return out;
}

/** decodePDU reads a WebSocket message. It throws when the message is not one whole PDU. */
export function decodePDU(bytes: Uint8Array): PDU {
  if (bytes.length < headerSize)
    throw new Error(`a message of ${bytes.length} bytes, a PDU has at least ${headerSize}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.getUint32(0);
  if (length !== bytes.length)
    throw new Error(`a message of ${bytes.length} bytes holds a PDU of ${length}`);
  return { command: view.getUint16(10), seq: view.getUint16(12), body: bytes.subarray(headerSize) };
}
