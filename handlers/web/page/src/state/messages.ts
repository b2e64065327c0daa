import type { IMMsgData } from "../gen/message_pb";
import type { MsgInfo, MsgType } from "../gen/base_pb";
import type { TextCipher } from "../proto/cipher";
import { isSound, type Content, type Message } from "./types";

/** readContent decodes the data of a message. The result holds no view of data. */
export function readContent(type: MsgType, data: Uint8Array, cipher: TextCipher): Content {
  if (!isSound(type)) return { kind: "text", text: cipher.open(data) };
  if (data.length < 4) return { kind: "sound", seconds: 0 };
  const seconds = new DataView(data.buffer, data.byteOffset).getUint32(0);
  return { kind: "sound", seconds: Math.min(seconds, 3600), data: data.slice(4) };
}

/**
 * readPreview decodes the data of a message in a list of conversations. There a text stands in
 * place of a sound, so its duration is not known: 0.
 */
export function readPreview(type: MsgType, data: Uint8Array, cipher: TextCipher): Content {
  if (isSound(type)) return { kind: "sound", seconds: 0 };
  return readContent(type, data, cipher);
}

/** writeContent encodes a content as the data of a message. */
export function writeContent(c: Content, cipher: TextCipher): Uint8Array<ArrayBuffer> {
  if (c.kind === "text") return cipher.seal(c.text);
  const out = new Uint8Array(4 + (c.data?.length ?? 0));
  new DataView(out.buffer).setUint32(0, c.seconds);
  if (c.data) out.set(c.data, 4);
  return out;
}

export function fromInfo(m: MsgInfo, cipher: TextCipher): Message {
  return { id: m.msgId, from: m.fromSessionId, time: m.createTime,
    content: readContent(m.msgType, m.msgData, cipher) };
}

export function fromData(m: IMMsgData, cipher: TextCipher): Message {
  return { id: m.msgId, from: m.fromUserId, time: m.createTime,
    content: readContent(m.msgType, m.msgData, cipher) };
}

/**
 * merge returns the messages of both lists in the order of their ids, each once. The first list
 * is in order. It is returned itself when nothing is new.
 */
export function merge(list: readonly Message[], more: readonly Message[]): readonly Message[] {
  const last = list.at(-1)?.id ?? 0;
  if (more.length === 1 && more[0]!.id > last) return [...list, more[0]!];
  // A page of older messages.
  if (ordered(more) && list.length && more.at(-1)!.id < list[0]!.id) return [...more, ...list];
  const known = new Set(list.map((m) => m.id));
  const fresh = more.filter((m) => !known.has(m.id) && known.add(m.id));
  if (!fresh.length) return list;
  return [...list, ...fresh].sort((a, b) => a.id - b.id);
}

/** ordered reports whether messages are in the order of their ids, each once, and not empty. */
function ordered(list: readonly Message[]): boolean {
  return list.length > 0 && list.every((m, i) => i === 0 || list[i - 1]!.id < m.id);
}

/**
 * joins reports whether a page of the history, which begins at the newest message, leaves no gap
 * to the messages that are known.
 */
export function joins(known: readonly Message[], page: readonly Message[]): boolean {
  const last = known.at(-1)?.id;
  const lowest = page.reduce((n, m) => Math.min(n, m.id), Infinity);
  return last === undefined || lowest <= last;
}
