import { MsgRefusal } from "../gen/message_pb";
import { steady } from "../net/steady";
import type { ConvKey, Failure, Pending } from "./types";

/** The time for which servers recognise a repeated client_msg_id is 24 h. */
export const repeatWindow = 23 * 3600_000;

const ackWithin = 10_000;
const mostAttempts = 4;
/** Servers take 20 texts at once, then 20 a second. */
const burst = 15;
const perSecond = 15;

interface Entry extends Pending {
  /** The number of the frame, while it waits for an ack. */
  seq: number;
  /** When it was sent, as steady returns it; 0: it has to be sent. */
  sentAt: number;
  /** Times sent without an ack since the connection began or the user asked for it. */
  attempts: number;
}

export interface OutboxEvents {
  /** Sends a text. The result is the seq of its frame. seq is that of the send before, or 0. */
  transmit(p: Pending, seq: number): number;
  stored(p: Pending, msgId: number): void;
  failed(p: Pending, why: Failure): void;
}

/**
 * Outbox sends the texts of each conversation in their order until the server acks them. A text
 * that is not acked is sent again with the same client_msg_id, together with all later ones of
 * its conversation.
 */
export class Outbox {
  readonly #queues = new Map<ConvKey, Entry[]>();
  readonly #holds = new Map<ConvKey, number>();
  readonly #events: OutboxEvents;
  #online = false;
  #tokens = burst;
  #filled = steady();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(events: OutboxEvents) {
    this.#events = events;
  }

  /** add appends a text to the queue of its conversation. */
  add(p: Pending) {
    const queue = this.#queues.get(p.conv) ?? [];
    this.#queues.set(p.conv, queue);
    queue.push({ ...p, seq: 0, sentAt: 0, attempts: 0 });
    this.#pump();
  }

  /** online sends all texts again that have no ack. It is called after each login. */
  online() {
    this.#online = true;
    this.#holds.clear();
    this.#expire();
    for (const queue of this.#queues.values())
      for (const e of queue) {
        e.sentAt = 0;
        e.attempts = 0;
      }
    this.#tokens = burst;
    this.#pump();
  }

  /** #expire fails the texts of which the server may not recognise a repetition any more. */
  #expire() {
    const since = Date.now() - repeatWindow;
    for (const [conv, queue] of [...this.#queues]) {
      this.#queues.set(conv, queue.filter((e) => e.created >= since));
      for (const e of queue) if (e.created < since) this.#events.failed(e, "old");
    }
  }

  /** offline keeps the texts until the next login. */
  offline() {
    this.#online = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** drop forgets a text: another tab has sent or discarded it. */
  drop({ conv, cmid }: Pending) {
    this.#queues.set(conv, (this.#queues.get(conv) ?? []).filter((e) => e.cmid !== cmid));
    this.#pump();
  }

  /** clear forgets all texts: the user has logged out. */
  clear() {
    this.offline();
    this.#queues.clear();
    this.#holds.clear();
  }

  /** acked takes the server's answer to a text. */
  acked(conv: ConvKey, seq: number, msgId: number, refusal: MsgRefusal | 0) {
    const queue = this.#queues.get(conv);
    const at = queue?.findIndex((e) => e.seq === seq && e.sentAt > 0) ?? -1;
    const entry = queue?.[at];
    if (!queue || !entry) return; // of a frame that was sent again since
    if (refusal === MsgRefusal.AGAIN) {
      this.#again(conv, queue, at);
    } else {
      queue.splice(at, 1);
      if (refusal) this.#events.failed(entry, "rejected");
      else this.#events.stored(entry, msgId);
    }
    this.#pump();
  }

  /** #again sends a text and all later ones of its conversation again, after a moment. */
  #again(conv: ConvKey, queue: Entry[], at: number) {
    const first = queue[at]!;
    if (first.attempts >= mostAttempts) return this.#giveUp(conv);
    for (const e of queue.slice(at)) e.sentAt = 0;
    this.#holds.set(conv, steady() + 500 * 2 ** first.attempts);
  }

  /** #giveUp fails all texts of a conversation, so that no text overtakes another. */
  #giveUp(conv: ConvKey) {
    const queue = this.#queues.get(conv) ?? [];
    this.#queues.delete(conv);
    this.#holds.delete(conv);
    for (const e of queue) this.#events.failed(e, "unanswered");
  }

  #pump() {
    if (!this.#online) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = steady();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filled) / 1000) * perSecond);
    this.#filled = now;
    let next = Infinity;
    for (const conv of [...this.#queues.keys()]) next = Math.min(next, this.#pumpOne(conv, now));
    if (next < Infinity) this.#timer = setTimeout(() => this.#pump(), Math.max(20, next - now));
  }

  /** #pumpOne sends what it can of a conversation, and returns when to look at it again. */
  #pumpOne(conv: ConvKey, now: number): number {
    const queue = this.#queues.get(conv)!;
    const late = queue.find((e) => e.sentAt > 0 && now - e.sentAt >= ackWithin);
    if (late) {
      if (late.attempts >= mostAttempts) {
        this.#giveUp(conv);
        return Infinity;
      }
      for (const e of queue.slice(queue.indexOf(late))) e.sentAt = 0;
    }
    const hold = this.#holds.get(conv) ?? 0;
    if (hold > now) return hold;
    this.#holds.delete(conv);
    let next = Infinity;
    for (const e of queue) {
      if (e.sentAt === 0) {
        if (this.#tokens < 1) return Math.min(next, now + 1000 / perSecond);
        this.#tokens--;
        e.sentAt = now;
        e.attempts++;
        e.seq = this.#events.transmit(e, e.attempts > 1 ? e.seq : 0);
      }
      next = Math.min(next, e.sentAt + ackWithin);
    }
    if (!queue.length) this.#queues.delete(conv);
    return next;
  }
}

/** newMessageID returns a new client_msg_id. */
export function newMessageID(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
}
