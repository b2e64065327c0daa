import { ecb } from "@noble/ciphers/aes.js";

/** The longest body of a text that the server stores, in bytes. */
export const maxBody = 4096;

const utf8 = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const block = 16;

/** TextCipher seals and opens the bodies of texts: base64 of AES-256 in ECB mode. */
export class TextCipher {
  readonly #key: Uint8Array | undefined;

  /** key has 32 bytes in UTF-8. With an empty key texts are sent plain. */
  constructor(key: string) {
    const bytes = utf8.encode(key);
    if (bytes.length !== 0 && bytes.length !== 32)
      throw new Error(`a text key of ${bytes.length} bytes, it has 32`);
    this.#key = bytes.length ? bytes : undefined;
  }

  /** seal returns the body of a text. */
  seal(text: string): Uint8Array<ArrayBuffer> {
    const plain = utf8.encode(text);
    if (!this.#key) return plain;
    const padded = new Uint8Array(Math.ceil((plain.length + 4) / block) * block);
    padded.set(plain);
    new DataView(padded.buffer).setUint32(padded.length - 4, plain.length);
    // The cipher object encrypts once.
    return utf8.encode(toBase64(ecb(this.#key, { disablePadding: true }).encrypt(padded)));
  }

  /** open returns the text of a body. A body that does not decrypt is returned as it is. */
  open(body: Uint8Array): string {
    const plain = this.#decrypt(body);
    return plain ?? lenient.decode(body);
  }

  #decrypt(body: Uint8Array): string | undefined {
    if (!this.#key) return undefined;
    const sealed = fromBase64(lenient.decode(body));
    if (!sealed || sealed.length === 0 || sealed.length % block !== 0) return undefined;
    const plain = ecb(this.#key, { disablePadding: true }).decrypt(sealed);
    const length = new DataView(plain.buffer, plain.byteOffset).getUint32(plain.length - 4);
    // Some senders leave garbage between text and length, so the filler is not checked.
    if (length > plain.length - 4) return undefined;
    try {
      return strict.decode(plain.subarray(0, length));
    } catch {
      return undefined;
    }
  }
}

function toBase64(bytes: Uint8Array): string {
  let s = "";
  for (const b of bytes) s += String.fromCharCode(b);
  return btoa(s);
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  try {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  } catch {
    return undefined;
  }
}
