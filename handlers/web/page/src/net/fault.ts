/** FaultKind is what failed. i18n.ts has a text for each. */
export type FaultKind =
  /** There is no connection to a message server. */
  | "offline"
  /** The connection ended, or the server did not answer. */
  | "lost"
  /** The server takes no such request, picture or file. */
  | "bad"
  /** The server does not allow it: the transfer ended, or is another user's. */
  | "denied"
  /** The file server is not known any more. */
  | "unknown"
  /** Too many at once: try again later. */
  | "busy"
  /** A server failed: try again later. */
  | "failed"
  /** The disk of the file server is nearly full. */
  | "full"
  /** The files of this user that wait for their receivers leave no room for another one. */
  | "quota"
  | "notPicture";

/**
 * Fault is an error that the page says in its own language. The message is the detail, in the
 * words of the server or of the browser; it may be empty.
 */
export class Fault extends Error {
  readonly kind: FaultKind;

  constructor(kind: FaultKind, detail = "") {
    super(detail);
    this.kind = kind;
  }
}

/** The values of error_code of file transfers and of the picture server. */
const coded: Record<number, FaultKind> = { 1: "bad", 3: "denied", 4: "unknown", 8: "busy",
  9: "failed" };

/** faultOf returns the error for an error_code and the text beside it. */
export function faultOf(code: number | undefined, text: string): Fault {
  return new Fault(coded[code ?? 0] ?? "failed", text);
}

/** The values of result_code that say why no file is kept for an absent user. */
const refused: Record<number, FaultKind> = { 100: "full", 101: "quota" };

/** faultOfFile returns the error for the result_code of IMFileRsp. */
export function faultOfFile(code: number): Fault {
  const kind = refused[code];
  return kind ? new Fault(kind) : new Fault("failed", `IMFileRsp ${code}`);
}

/** faultOfStatus returns the error for a status of HTTP and the text of the answer. */
export function faultOfStatus(status: number, text: string): Fault {
  const code = { 400: 1, 404: 3, 413: 1, 503: 8 }[status] ?? 9;
  return faultOf(code, text || `HTTP ${status}`);
}
