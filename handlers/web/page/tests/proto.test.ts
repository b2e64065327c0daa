import { ecb } from "@noble/ciphers/aes.js";
import { describe, expect, test } from "vitest";
import { ClientType, SessionType, MsgType, UserStatType } from "../src/gen/base_pb";
import { IMLoginReqSchema } from "../src/gen/login_pb";
import { IMMsgDataAckSchema, IMMsgDataSchema, type IMMsgData } from "../src/gen/message_pb";
import { IMHeartBeatSchema } from "../src/gen/other_pb";
import { TextCipher } from "../src/proto/cipher";
import { decode, encode } from "../src/proto/codec";
import { decodePDU, encodePDU } from "../src/proto/pdu";
import { passwordDigest } from "../src/proto/password";

const hex = (bytes: Uint8Array) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
const bytes = (dump: string) =>
  Uint8Array.from(dump.trim().split(/\s+/), (pair) => parseInt(pair, 16));
const key = "12345678901234567890123456789012";

// The dumps and vectors of PROTOCOL.md.
const login = bytes(`
  00 00 00 48 00 01 00 00 00 01 01 03 00 01 00 00
  0a 05 61 6c 69 63 65 12 20 66 65 30 31 63 65 32
  61 37 66 62 61 63 38 66 61 66 61 65 64 37 63 39
  38 32 61 30 34 65 32 32 39 18 01 20 11 2a 09 65
  78 61 6d 70 6c 65 2f 31`);
const hi = bytes(`
  00 00 00 34 00 01 00 00 00 03 03 01 00 02 00 00
  08 01 10 02 18 00 20 00 28 01 32 18 69 73 46 62
  67 56 43 49 4c 65 4e 50 58 7a 56 65 2b 4d 6e 63
  58 51 3d 3d`);
const ack = bytes("00 00 00 18 00 01 00 00 00 03 03 02 00 02 00 00 08 01 10 02 18 07 20 01");
const heartbeat = bytes("00 00 00 10 00 01 00 00 00 07 07 01 00 00 00 00");
const texts: [string, string][] = [
  ["", "e5RnnlJkv4QGnGhkMwfvgA=="],
  ["hi", "isFbgVCILeNPXzVe+MncXQ=="],
  ["hi bob, 你好", "/HURYAxdWPavrWgtTHdDdnWXrZFfV+UBo37vcxL/NUY="],
  ["0123456789ab", "pjioVtcJuh77LuSiew7aJw=="],
];

describe("PDU", () => {
  test("encodes the dumps of the protocol page", () => {
    const fields = { userName: "alice", password: passwordDigest("demo"),
      onlineStatus: UserStatType.USER_STATUS_ONLINE, clientType: ClientType.IOS,
      clientVersion: "example/1" };
    expect(hex(encode(IMLoginReqSchema, fields, 1))).toBe(hex(login));
    const text = { fromUserId: 1, toSessionId: 2, msgId: 0, createTime: 0,
      msgType: MsgType.SINGLE_TEXT, msgData: new TextCipher(key).seal("hi") };
    expect(hex(encode(IMMsgDataSchema, text, 2))).toBe(hex(hi));
    const received = { userId: 1, sessionId: 2, msgId: 7,
      sessionType: SessionType.SINGLE };
    expect(hex(encode(IMMsgDataAckSchema, received, 2))).toBe(hex(ack));
    expect(hex(encode(IMHeartBeatSchema, {}, 0))).toBe(hex(heartbeat));
  });

  test("decodes a text", () => {
    const got = decode(hi);
    expect(got?.schema).toBe(IMMsgDataSchema);
    expect(got?.seq).toBe(2);
    const message = got?.message as IMMsgData;
    expect(message.toSessionId).toBe(2);
    expect(new TextCipher(key).open(message.msgData)).toBe("hi");
  });

  test("reads a PDU that lies inside a larger buffer", () => {
    const larger = new Uint8Array(hi.length + 7);
    larger.set(hi, 5);
    expect(decode(larger.subarray(5, 5 + hi.length))?.seq).toBe(2);
  });

  test("rejects what is not one PDU", () => {
    expect(() => decodePDU(heartbeat.subarray(0, 15))).toThrow("at least 16");
    expect(() => decodePDU(hi.subarray(0, 40))).toThrow("holds a PDU of 52");
    expect(() => decodePDU(Uint8Array.from([...hi, ...hi]))).toThrow("holds a PDU of 52");
  });

  test("rejects a message without a required field", () => {
    const short = encodePDU(0x0301, 0, bytes("08 01"));
    expect(() => decode(short)).toThrow("IMMsgData without to_session_id");
    expect(() => encode(IMMsgDataSchema, { fromUserId: 1 }, 1)).toThrow();
  });

  test("ignores an unknown command", () => {
    expect(decode(encodePDU(0x0fff, 1, new Uint8Array()))).toBeUndefined();
  });

  test("survives random bodies", () => {
    let seed = 1;
    const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) >> 8;
    for (let i = 0; i < 3000; i++) {
      const body = Uint8Array.from({ length: random() % 40 }, () => random());
      const command = [0x0301, 0x0202, 0x0209, 0x0308, 0x030a, 0x0404][i % 6]!;
      try {
        decode(encodePDU(command, 1, body));
      } catch (err) {
        expect(err).toBeInstanceOf(Error);
        expect(err).not.toBeInstanceOf(TypeError);
      }
    }
  });
});

describe("TextCipher", () => {
  const cipher = new TextCipher(key);
  const ascii = (b: Uint8Array) => new TextDecoder().decode(b);

  test.each(texts)("seals and opens %j", (text, body) => {
    expect(ascii(cipher.seal(text))).toBe(body);
    expect(cipher.open(new TextEncoder().encode(body))).toBe(text);
  });

  test("shows a body that does not decrypt as it is", () => {
    for (const plain of ["hello", "abcd", "", "你好", "AAAAAAAAAAAAAAAAAAAAAA=="]) {
      expect(cipher.open(new TextEncoder().encode(plain))).toBe(plain);
    }
  });

  test("shows a body whose length is impossible as it is", () => {
    const block = new TextEncoder().encode("hello hello!\0\0\0\x0d");
    const sealed = ecb(new TextEncoder().encode(key), { disablePadding: true }).encrypt(block);
    const body = btoa(String.fromCharCode(...sealed));
    expect(cipher.open(new TextEncoder().encode(body))).toBe(body);
  });

  test("sends plain texts without a key", () => {
    expect(ascii(new TextCipher("").seal("hi 你好"))).toBe("hi 你好");
  });

  test("refuses a key of a wrong length", () => {
    expect(() => new TextCipher("short")).toThrow("5 bytes");
  });
});
