/**
 * One tab has the connection of a user: the servers allow one pc client a user, so two tabs
 * with a connection each would end each other's. A tab asks the others before it connects, and
 * the user may take over. It uses BroadcastChannel and not Web Locks, because those need https.
 */

type Word =
  | { kind: "ask"; user: string; from: number }
  | { kind: "mine"; user: string; from: number }
  | { kind: "take"; user: string; from: number }
  | { kind: "out"; user: string; from: number };

/** The time in which another tab answers, in ms. */
const answerWithin = 250;

export class Tabs {
  readonly #me = Math.floor(Math.random() * 2 ** 48);
  readonly #channel: BroadcastChannel | undefined;
  readonly #taken: () => void;
  readonly #signedOut: () => void;
  #user = "";
  #has = false;
  #asking: ((free: boolean) => void) | undefined;

  /**
   * taken is called when another tab takes the connection of this one, signedOut when the user
   * has signed out in another tab.
   */
  constructor(taken: () => void, signedOut: () => void) {
    this.#taken = taken;
    this.#signedOut = signedOut;
    if (typeof BroadcastChannel === "undefined") return;
    try {
      this.#channel = new BroadcastChannel("teamtalk-tabs");
    } catch {
      return; // the user lets pages keep nothing, and then tabs do not see each other
    }
    this.#channel.onmessage = (ev) => this.#hear(ev.data as Word);
  }

  /** claim asks for the connection of a user. It reports whether this tab has it now. */
  async claim(user: string): Promise<boolean> {
    this.#user = user.toLowerCase();
    if (!this.#channel) return (this.#has = true);
    this.#asking?.(false);
    let mine: ((free: boolean) => void) | undefined;
    const free = await new Promise<boolean>((resolve) => {
      mine = this.#asking = resolve;
      this.#say("ask");
      setTimeout(() => resolve(true), answerWithin);
    });
    if (this.#asking !== mine) return false; // another claim has begun, or the user signed out
    this.#asking = undefined;
    if (free) this.#has = true;
    return free;
  }

  /** take takes the connection from the tab that has it. */
  take() {
    this.#has = true;
    this.#say("take");
  }

  /** signOut tells the other tabs of the user. It gives the connection up. */
  signOut() {
    this.#say("out");
    this.release();
  }

  /** release gives the connection up. */
  release() {
    this.#asking?.(false);
    this.#asking = undefined;
    this.#has = false;
    this.#user = "";
  }

  #say(kind: Word["kind"]) {
    this.#channel?.postMessage({ kind, user: this.#user, from: this.#me } satisfies Word);
  }

  #hear(word: Word) {
    if (word.user !== this.#user || word.from === this.#me) return;
    switch (word.kind) {
      case "ask":
        // Of two tabs that ask at once, the one with the lower number has the connection.
        if (this.#has || (this.#asking && this.#me < word.from)) this.#say("mine");
        break;
      case "mine":
        this.#asking?.(false);
        break;
      case "take":
        this.#asking?.(false);
        if (!this.#has) return;
        this.#has = false;
        this.#taken();
        break;
      case "out":
        this.release();
        this.#signedOut();
        break;
    }
  }
}
