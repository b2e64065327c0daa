import { MsgType, SessionType } from "../gen/base_pb";

/** ConvKey names a conversation: "u12" with user 12, "g5" in group 5. */
export type ConvKey = `u${number}` | `g${number}`;

export interface User {
  id: number;
  /** The login name. */
  name: string;
  /** The name in pinyin, for search. */
  pinyin: string;
  nick: string;
  avatar: string;
  depart: number;
  sign: string;
  email: string;
  tel: string;
  /** The user has left: only old messages name it. */
  gone: boolean;
}

export interface Depart {
  id: number;
  name: string;
  parent: number;
  priority: number;
}

export interface Group {
  id: number;
  version: number;
  name: string;
  creator: number;
  /** Administrators and the creator change a normal group, its members a temporary one. */
  normal: boolean;
  members: number[];
}

export type Content =
  | { kind: "text"; text: string }
  /** data is an Ogg Speex file, without the duration before it. */
  | { kind: "sound"; seconds: number; data?: Uint8Array<ArrayBuffer> };

export interface Message {
  id: number;
  from: number;
  /** Seconds since 1970. */
  time: number;
  content: Content;
}

/** Pending is a text or a sound that the server has not acked. */
export interface Pending {
  /** The client_msg_id: 32 hexadecimal digits. */
  cmid: string;
  conv: ConvKey;
  content: Content;
  /** Milliseconds since 1970, by this machine's clock. */
  created: number;
  state: "sending" | "failed";
  failure?: Failure;
}

/** Failure is the reason why a text failed. */
export type Failure =
  /** The server will never store it. */
  | "rejected"
  /** The server did not store it, or did not answer, several times. */
  | "unanswered"
  /** It waited for longer than the server recognises a repetition. */
  | "old";

export interface Session {
  key: ConvKey;
  /** Seconds since 1970. */
  updated: number;
  lastId: number;
  lastFrom: number;
  last: Content;
  unread: number;
}

export const userKey = (id: number): ConvKey => `u${id}`;
export const groupKey = (id: number): ConvKey => `g${id}`;
export const isGroup = (key: ConvKey) => key[0] === "g";
export const idOf = (key: ConvKey) => Number(key.slice(1));
export const keyOf = (type: SessionType, id: number): ConvKey =>
  type === SessionType.GROUP ? groupKey(id) : userKey(id);
export const sessionType = (key: ConvKey) =>
  isGroup(key) ? SessionType.GROUP : SessionType.SINGLE;
export const textType = (key: ConvKey) =>
  isGroup(key) ? MsgType.GROUP_TEXT : MsgType.SINGLE_TEXT;
export const soundType = (key: ConvKey) =>
  isGroup(key) ? MsgType.GROUP_AUDIO : MsgType.SINGLE_AUDIO;
export const isGroupType = (type: MsgType) => (type & 0x10) !== 0;
export const isSound = (type: MsgType) =>
  type === MsgType.SINGLE_AUDIO || type === MsgType.GROUP_AUDIO;
