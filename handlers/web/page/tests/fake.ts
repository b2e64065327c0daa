import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { Socket } from "../src/net/connection";
import { decode, encode, type Received } from "../src/proto/codec";

/** FakeSocket is a WebSocket whose other end is the test. */
export class FakeSocket implements Socket {
  binaryType = "";
  onopen: ((ev: any) => void) | null = null;
  onmessage: ((ev: any) => void) | null = null;
  onclose: ((ev: any) => void) | null = null;
  sent: Received[] = [];
  ended = false;

  send(data: Uint8Array<ArrayBuffer>) {
    this.sent.push(decode(data)!);
  }

  close() {
    this.ended = true;
  }

  open() {
    this.onopen?.({});
  }

  /** deliver gives the page a message of the server. */
  deliver<S extends DescMessage>(schema: S, fields: MessageInitShape<S>, seq = 0) {
    this.onmessage?.({ data: encode(schema, fields, seq).buffer });
  }

  /** drop ends the connection. */
  drop(code = 1006, reason = "") {
    this.ended = true;
    this.onclose?.({ code, reason });
  }

  /** take removes and returns the messages of a schema. */
  take(schema: DescMessage): Received[] {
    const found = this.sent.filter((p) => p.schema === schema);
    this.sent = this.sent.filter((p) => p.schema !== schema);
    return found;
  }
}
