import type { ConvKey, Depart, Group, Message, Pending, Session, User } from "./types";

/** Book is what the page knows between two visits, besides messages. */
export interface Book {
  users: User[];
  usersTime: number;
  departs: Depart[];
  departsTime: number;
  groups: Group[];
  sessions: Session[];
  sessionsTime: number;
}

type Row = Message & { conv: ConvKey };

/** Messages kept for each conversation. */
const keep = 200;

/**
 * Cache is the IndexedDB of one user. The server has everything but the outbox, so an error of
 * the database is logged and costs nothing else.
 */
export class Cache {
  readonly #db: IDBDatabase | undefined;

  private constructor(db: IDBDatabase | undefined) {
    this.#db = db;
  }

  /** open opens the database of a user. Without one the cache keeps nothing. */
  static async open(user: number): Promise<Cache> {
    try {
      const request = indexedDB.open(`teamtalk-${user}`, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("messages", { keyPath: ["conv", "id"] });
        request.result.createObjectStore("outbox", { keyPath: "cmid" });
        request.result.createObjectStore("book");
      };
      const opening = result(request);
      try {
        const db = await soon(opening);
        db.onversionchange = () => db.close();
        return new Cache(db);
      } catch (err) {
        // An open database would keep others from deleting it.
        void opening.then((db) => db.close(), () => {});
        throw err;
      }
    } catch (err) {
      console.warn("The browser keeps nothing for this page:", err);
      return new Cache(undefined);
    }
  }

  close() {
    this.#db?.close();
  }

  /** remove deletes the database of a user. */
  static remove(user: number) {
    try {
      indexedDB.deleteDatabase(`teamtalk-${user}`);
    } catch {
      // nothing was kept
    }
  }

  async book(): Promise<Partial<Book>> {
    return (await this.#read<Partial<Book>>("book", (s) => s.get("book"))) ?? {};
  }

  saveBook(book: Book): Promise<boolean> {
    return this.#write("book", (s) => s.put(book, "book"));
  }

  /** messages returns the messages kept of a conversation, oldest first and without gaps. */
  async messages(conv: ConvKey): Promise<Message[]> {
    const rows = await this.#read<Row[]>("messages", (s) => s.getAll(whole(conv)));
    return (rows ?? []).map(({ conv: _, ...m }) => m);
  }

  /** saveMessages replaces the messages kept of a conversation by the newest of a list. */
  saveMessages(conv: ConvKey, list: readonly Message[]): Promise<boolean> {
    return this.#write("messages", (s) => {
      s.delete(whole(conv));
      for (const m of list.slice(-keep)) s.put({ ...m, conv });
    });
  }

  /** addMessage keeps one message that follows the ones kept. */
  addMessage(conv: ConvKey, m: Message): Promise<boolean> {
    return this.#write("messages", (s) => s.put({ ...m, conv }));
  }

  /** pending returns the texts kept, oldest first; undefined: the database cannot be read. */
  async pending(): Promise<Pending[] | undefined> {
    const rows = await this.#read<Pending[]>("outbox", (s) => s.getAll());
    return rows?.sort((a, b) => a.created - b.created);
  }

  /** savePending reports whether the text is stored. So do the other changes. */
  savePending(p: Pending): Promise<boolean> {
    return this.#write("outbox", (s) => s.put({ ...p }));
  }

  /** replacePending stores p, and deletes another text in the same transaction. */
  replacePending(cmid: string, p: Pending): Promise<boolean> {
    return this.#write("outbox", (s) => {
      if (cmid !== p.cmid) s.delete(cmid);
      s.put({ ...p });
    });
  }

  removePending(cmid: string): Promise<boolean> {
    return this.#write("outbox", (s) => s.delete(cmid));
  }

  async #read<T>(store: string, ask: (s: IDBObjectStore) => IDBRequest): Promise<T | undefined> {
    if (!this.#db) return undefined;
    try {
      return await soon(result(ask(this.#db.transaction(store).objectStore(store)) as
        IDBRequest<T>));
    } catch (err) {
      console.warn(`The browser's ${store} cannot be read:`, err);
      return undefined;
    }
  }

  /** #write resolves when the browser has stored the change: the put's success comes before. */
  async #write(store: string, change: (s: IDBObjectStore) => void): Promise<boolean> {
    if (!this.#db) return false;
    const db = this.#db;
    try {
      await soon(new Promise<void>((resolve, reject) => {
        const tx = db.transaction(store, "readwrite");
        tx.oncomplete = () => resolve();
        tx.onabort = () => reject(tx.error ?? new Error("aborted"));
        change(tx.objectStore(store));
      }));
      return true;
    } catch (err) {
      console.warn(`The browser's ${store} cannot be written:`, err);
      return false;
    }
  }
}

/** soon fails after some seconds: nothing waits for a database that hangs. */
async function soon<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("it does not answer")), 4000);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function whole(conv: ConvKey): IDBKeyRange {
  return IDBKeyRange.bound([conv, 0], [conv, Infinity]);
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    if ("onblocked" in request) request.onblocked = () => reject(new Error("blocked"));
  });
}
