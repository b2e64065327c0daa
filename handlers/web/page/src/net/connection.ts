import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { decode, encode, type Received } from "../proto/codec";

/** The part of WebSocket that a connection uses. */
export interface Socket {
  binaryType: string;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
  onopen: ((ev: any) => void) | null;
  onmessage: ((ev: any) => void) | null;
  onclose: ((ev: any) => void) | null;
}

export interface Handlers {
  opened(): void;
  /** A PDU that is not the answer to a call. */
  received(pdu: Received): void;
  /** Called once. code is that of the WebSocket: 1006 without a close frame. */
  closed(code: number, reason: string): void;
}

/** The error of a call that got no answer: it was lost, or the connection ended. */
export class NoAnswer extends Error {}

const callTimeout = 15_000;

interface Call {
  schema: DescMessage;
  resolve(message: any): void;
  reject(err: Error): void;
  timer: ReturnType<typeof setTimeout>;
}

/** Connection is one WebSocket to a message server. It carries one PDU a message. */
export class Connection {
  /** Times of the last PDU received and sent, in ms. */
  heard = Date.now();
  sent = Date.now();
  readonly #socket: Socket;
  readonly #handlers: Handlers;
  readonly #calls = new Map<number, Call>();
  // A server may take an equal text with an equal seq for a repetition: begin at random.
  #seq = Math.floor(Math.random() * 0xffff);
  #over = false;

  constructor(socket: Socket, handlers: Handlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.heard = Date.now();
      handlers.opened();
    };
    socket.onmessage = (ev) => this.#receive(ev.data);
    socket.onclose = (ev) => this.#end(ev.code, ev.reason);
  }

  /**
   * clockSet begins to count anew if the clock was set back: no heartbeat would leave for as long
   * as it was set back, and the server would end the connection.
   */
  clockSet(now: number) {
    if (now >= this.heard && now >= this.sent) return;
    this.heard = now;
    this.sent = 0;
  }

  /** nextSeq returns the number for a request: 1 to 65,535. */
  nextSeq(): number {
    this.#seq = (this.#seq % 0xffff) + 1;
    return this.#seq;
  }

  /** send sends a message and returns its seq. */
  send<S extends DescMessage>(schema: S, fields: MessageInitShape<S>, seq?: number): number {
    seq ??= this.nextSeq();
    if (this.#over) return seq;
    this.#socket.send(encode(schema, fields, seq));
    this.sent = Date.now();
    return seq;
  }

  /** call sends a request and returns its answer. The error is NoAnswer. */
  call<Q extends DescMessage, A extends DescMessage>(
    request: Q,
    fields: MessageInitShape<Q>,
    answer: A,
    timeout = callTimeout,
  ): Promise<MessageShape<A>> {
    if (this.#over) return Promise.reject(new NoAnswer("not connected"));
    return new Promise((resolve, reject) => {
      const seq = this.nextSeq();
      const timer = setTimeout(() => {
        this.#calls.delete(seq);
        reject(new NoAnswer(`${request.name}: no answer`));
      }, timeout);
      this.#calls.set(seq, { schema: answer, resolve, reject, timer });
      this.send(request, fields, seq);
    });
  }

  /** close ends the connection. closed is called with the code before it returns. */
  close(code: number, reason: string) {
    this.#socket.close(1000, "");
    this.#end(code, reason);
  }

  #receive(data: unknown) {
    if (this.#over || !(data instanceof ArrayBuffer)) return;
    this.heard = Date.now();
    let pdu: Received | undefined;
    try {
      pdu = decode(new Uint8Array(data));
    } catch (err) {
      console.warn("A message of the server is dropped:", err);
      return;
    }
    if (!pdu) return;
    const call = this.#calls.get(pdu.seq);
    if (call && call.schema === pdu.schema) {
      this.#calls.delete(pdu.seq);
      clearTimeout(call.timer);
      call.resolve(pdu.message);
      return;
    }
    this.#handlers.received(pdu);
  }

  #end(code: number, reason: string) {
    if (this.#over) return;
    this.#over = true;
    for (const call of this.#calls.values()) {
      clearTimeout(call.timer);
      call.reject(new NoAnswer("the connection ended"));
    }
    this.#calls.clear();
    this.#handlers.closed(code, reason);
  }
}
