import { unwrap } from "solid-js/store";
import type { IpAddr } from "../gen/base_pb";
import { TransferFileType } from "../gen/base_pb";
import {
  IMFileAddOfflineReqSchema,
  IMFileDelOfflineReqSchema,
  IMFileHasOfflineReqSchema,
  IMFileHasOfflineRspSchema,
  IMFileReqSchema,
  IMFileRspSchema,
  type IMFileNotify,
} from "../gen/file_pb";
import type { Connection } from "../net/connection";
import { Fault, faultOfFile } from "../net/fault";
import { declineFile, fileURL, getFile, postFile } from "../net/files";
import { newMessageID } from "./outbox";
import type { Store } from "./store";
import { idOf, userKey, type ConvKey } from "./types";

/** FileEntry is a file between this user and another one. */
export interface FileEntry {
  /** Identifies the entry on this page. */
  id: string;
  /** The server's name of the transfer; "" until it has one. */
  task: string;
  name: string;
  /** Bytes. */
  size: number;
  own: boolean;
  /** The sender waits, and passes the file on itself. Otherwise the server has it. */
  direct: boolean;
  state: "waiting" | "moving" | "done" | "failed";
  /** 0 to 1. */
  progress: number;
  error: unknown;
  /** The file server, as host:port. */
  server: string;
  file?: File;
}

/** The largest file that the protocol can announce, in bytes. */
export const maxFile = 0xffffffff;

/** The direct files of a user that are shown while they wait: each costs its sender nothing. */
const mostDirect = 5;

/** offline_ready of a notice about a file that is whole. */
const ready = 1;

/** Files sends files to users and fetches those that wait for this one. */
export class Files {
  readonly #store: Store;
  readonly #connection: () => Connection | undefined;
  /** Files that are uploaded, but whose receivers could not be told, and their senders. */
  #untold: { key: ConvKey; e: FileEntry; me: number }[] = [];

  constructor(store: Store, connection: () => Connection | undefined) {
    this.#store = store;
    this.#connection = connection;
  }

  get #me(): number {
    return this.#store.state.me?.id ?? 0;
  }

  /** waiting asks for the files that wait for this user. */
  async waiting(): Promise<void> {
    const conn = this.#connection();
    if (!conn) return;
    const answer = await conn.call(IMFileHasOfflineReqSchema, { userId: this.#me },
      IMFileHasOfflineRspSchema);
    for (const f of answer.offlineFileList)
      this.#offered(f.fromUserId, f.taskId, f.fileName, f.fileSize, answer.ipAddrList, false);
  }

  /** noticed takes the notice of another user's file. */
  noticed(n: IMFileNotify) {
    const direct = n.transMode === TransferFileType.FILE_TYPE_ONLINE;
    if (!direct && n.offlineReady !== ready) return; // another notice follows
    this.#offered(n.fromUserId, n.taskId, n.fileName, n.fileSize, n.ipAddrList, direct);
  }

  #offered(from: number, task: string, name: string, size: number, servers: IpAddr[],
    direct: boolean) {
    const key = userKey(from);
    const known = this.#list(key).find((f) => f.task === task);
    if (known && !offered(known)) return;
    if (direct) this.#forget(key);
    this.#put(key, { id: known?.id ?? newMessageID(), task, name, size, own: false, direct,
      state: "waiting", progress: 0, error: "", server: address(servers) }, this.#me);
  }

  /** #forget drops old offers that the user has not taken, so that they bury no messages. */
  #forget(key: ConvKey) {
    const offers = this.#list(key).filter(offered);
    const old = new Set(offers.slice(0, Math.max(0, offers.length - mostDirect + 1)));
    if (old.size) this.#store.set("files", key, this.#list(key).filter((f) => !old.has(f)));
  }

  /** send sends a file, or continues with one that failed. */
  async send(key: ConvKey, file: File, entry?: FileEntry): Promise<void> {
    const me = this.#me;
    let e: FileEntry = entry ?? { id: newMessageID(), task: "", name: file.name, size: file.size,
      own: true, direct: false, state: "moving", progress: 0, error: "", server: "", file };
    const show = (change: Partial<FileEntry>) => this.#put(key, (e = { ...e, ...change }), me);
    show({ state: "moving", error: "", progress: 0 });
    try {
      if (!e.task) show(await this.#announce(key, e));
      await postFile(fileURL(e.task, me, e.server), file, (progress) => show({ progress }));
      this.#untold.push({ key, e, me });
      this.online();
      show({ state: "done", progress: 1, file: undefined });
    } catch (err) {
      show({ state: "failed", error: err });
    }
  }

  /** online tells the receivers of files that could not be told before. */
  online() {
    const conn = this.#connection();
    if (!conn) return; // after the next login
    for (const { key, e, me } of this.#untold.splice(0)) {
      if (me !== this.#me) continue; // another user has signed in
      conn.send(IMFileAddOfflineReqSchema, { fromUserId: me, toUserId: idOf(key),
        taskId: e.task, fileName: e.name, fileSize: e.size });
    }
  }

  async #announce(key: ConvKey, e: FileEntry): Promise<Partial<FileEntry>> {
    const conn = this.#connection();
    if (!conn) throw new Fault("offline");
    const answer = await conn.call(IMFileReqSchema, { fromUserId: this.#me, toUserId: idOf(key),
      fileName: e.name, fileSize: e.size, transMode: TransferFileType.FILE_TYPE_OFFLINE },
      IMFileRspSchema);
    if (answer.resultCode !== 0 || !answer.ipAddrList.length)
      throw faultOfFile(answer.resultCode);
    return { task: answer.taskId, server: address(answer.ipAddrList) };
  }

  /** fetch downloads a file, gives it to the browser, and removes it from the server. */
  async fetch(key: ConvKey, entry: FileEntry): Promise<void> {
    const me = this.#me;
    let e = { ...unwrap(entry) };
    const show = (change: Partial<FileEntry>) => this.#put(key, (e = { ...e, ...change }), me);
    show({ state: "moving", error: "", progress: 0 });
    try {
      const url = `${fileURL(e.task, this.#me, e.server)}&size=${e.size}` +
        `&name=${encodeURIComponent(e.name)}${e.direct ? "&direct=1" : ""}`;
      const blob = await getFile(url, e.size, (progress) => show({ progress }));
      save(blob, e.name);
      show({ state: "done", progress: 1 });
      if (!e.direct && me === this.#me) this.#taken(key, e);
    } catch (err) {
      show({ state: "failed", error: err });
    }
  }

  /**
   * dismiss takes a file off the list. One that waits is removed from the server, and the sender of
   * a direct one is told.
   */
  dismiss(key: ConvKey, e: FileEntry) {
    const open = !e.own && e.task && (e.state === "waiting" || e.state === "failed");
    if (open && e.direct) declineFile(fileURL(e.task, this.#me, e.server));
    else if (open) this.#taken(key, e);
    this.#store.set("files", key, this.#list(key).filter((f) => f.id !== e.id));
  }

  #taken(key: ConvKey, e: FileEntry) {
    this.#connection()?.send(IMFileDelOfflineReqSchema, { fromUserId: idOf(key),
      toUserId: this.#me, taskId: e.task });
  }

  #list(key: ConvKey): FileEntry[] {
    return unwrap(this.#store.state).files[key] ?? [];
  }

  /** #put shows a file, unless the user has signed out since. */
  #put(key: ConvKey, e: FileEntry, me: number) {
    if (me !== this.#me) return;
    const list = this.#list(key);
    const at = list.findIndex((f) => f.id === e.id);
    this.#store.set("files", key, at < 0 ? [...list, e] : list.with(at, e));
  }
}

/** offered reports whether a direct file waits for the user's decision. */
const offered = (f: FileEntry) => f.direct && f.state === "waiting";

function address(servers: IpAddr[]): string {
  const first = servers[0];
  if (!first) return "";
  return first.ip.includes(":") ? `[${first.ip}]:${first.port}` : `${first.ip}:${first.port}`;
}

/** save gives a file to the browser as a download. */
function save(blob: Blob, name: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
