import { isFieldSet } from "@bufbuild/protobuf";
import { UserStatType } from "../gen/base_pb";
import {
  IMAvatarChangedNotifySchema,
  IMRemoveSessionNotifySchema,
  IMSignInfoChangedNotifySchema,
  IMUserStatNotifySchema,
  type IMAvatarChangedNotify,
  type IMRemoveSessionNotify,
  type IMSignInfoChangedNotify,
  type IMUserStatNotify,
} from "../gen/buddy_pb";
import { IMFileNotifySchema, type IMFileNotify } from "../gen/file_pb";
import { IMGroupChangeMemberNotifySchema, type IMGroupChangeMemberNotify } from "../gen/group_pb";
import {
  IMMsgDataAckSchema,
  IMMsgDataReadNotifySchema,
  IMMsgDataSchema,
  type IMMsgData,
  type IMMsgDataAck,
  type IMMsgDataReadNotify,
} from "../gen/message_pb";
import { IMP2PCmdMsgSchema, type IMP2PCmdMsg } from "../gen/switch_pb";
import type { Received } from "../proto/codec";
import type { App } from "./app";
import { fromData, merge } from "./messages";
import type { Outbox } from "./outbox";
import { readTyping, typingFor } from "./text";
import {
  groupKey,
  idOf,
  isGroup,
  isGroupType,
  keyOf,
  sessionType,
  userKey,
  type ConvKey,
  type Message,
} from "./types";

/** Incoming takes what the server sends without a request. */
export class Incoming {
  /** Called with each message of another user that is new. */
  arrived: ((key: ConvKey, m: Message) => void) | undefined;
  readonly #app: App;
  readonly #outbox: Outbox;

  constructor(app: App, outbox: Outbox) {
    this.#app = app;
    this.#outbox = outbox;
  }

  received({ schema, seq, message }: Received) {
    switch (schema) {
      case IMMsgDataSchema:
        return this.#message(message as IMMsgData);
      case IMMsgDataAckSchema:
        return this.#ack(message as IMMsgDataAck, seq);
      case IMMsgDataReadNotifySchema: {
        const read = message as IMMsgDataReadNotify;
        this.#app.store.setUnread(keyOf(read.sessionType, read.sessionId), 0);
        return this.#app.keep();
      }
      case IMUserStatNotifySchema:
        return this.#presence(message as IMUserStatNotify);
      case IMP2PCmdMsgSchema:
        return this.#command(message as IMP2PCmdMsg);
      case IMFileNotifySchema: {
        const file = message as IMFileNotify;
        this.#app.sync?.wantUser(file.fromUserId);
        return this.#app.files.noticed(file);
      }
      case IMGroupChangeMemberNotifySchema:
        return this.#members(message as IMGroupChangeMemberNotify);
      case IMRemoveSessionNotifySchema: {
        const gone = message as IMRemoveSessionNotify;
        return this.#app.store.removeSession(keyOf(gone.sessionType, gone.sessionId));
      }
      case IMSignInfoChangedNotifySchema: {
        const sign = message as IMSignInfoChangedNotify;
        return this.#change(sign.changedUserId, { sign: sign.signInfo });
      }
      case IMAvatarChangedNotifySchema: {
        const avatar = message as IMAvatarChangedNotify;
        return this.#change(avatar.changedUserId, { avatar: avatar.avatarUrl });
      }
    }
  }

  #change(id: number, change: { sign?: string; avatar?: string }) {
    const user = this.#app.store.state.users[id];
    if (user) this.#app.store.putUsers([{ ...user, ...change }]);
  }

  #message(m: IMMsgData) {
    const { me, store, sync, link } = this.#app;
    const own = m.fromUserId === me;
    const key = isGroupType(m.msgType) ? groupKey(m.toSessionId)
      : userKey(own ? m.toSessionId : m.fromUserId);
    link.connection?.send(IMMsgDataAckSchema, { userId: me, sessionId: idOf(key),
      msgId: m.msgId, sessionType: sessionType(key) });
    const message = fromData(m, this.#app.cipher);
    sync?.wantUser(m.fromUserId);
    if (isGroup(key) && !store.state.groups[idOf(key)]) sync?.wantGroup(idOf(key));
    if (store.state.typing[m.fromUserId]) store.set("typing", m.fromUserId, 0);
    if (this.put(key, message, own ? 0 : 1) && !own) this.arrived?.(key, message);
  }

  /** put appends a new message to its conversation. It reports whether it is new. */
  put(key: ConvKey, m: Message, unread: number): boolean {
    const { store, cache } = this.#app;
    const fresh = store.touch(key, m, unread);
    const chat = store.raw(key);
    if (store.state.chats[key]) {
      const messages = merge(chat.messages, [m]);
      if (messages !== chat.messages) {
        store.setChat(key, { messages });
        if (chat.synced) void cache?.addMessage(key, m);
      }
    }
    this.#app.read();
    this.#app.keep();
    return fresh;
  }

  #ack(m: IMMsgDataAck, seq: number) {
    // A field that is not set reads as its first value, which is a refusal.
    const refused = isFieldSet(m, IMMsgDataAckSchema.field.refusal);
    this.#outbox.acked(keyOf(m.sessionType, m.sessionId), seq, m.msgId, refused ? m.refusal : 0);
  }

  #presence({ userStat }: IMUserStatNotify) {
    if (!userStat) return;
    const online = userStat.status !== UserStatType.USER_STATUS_OFFLINE;
    if (online) this.#app.store.set("online", userStat.userId, true);
    // The notice is about pc clients. The user may have a phone as well.
    else this.#app.sync?.wantStat(userStat.userId);
    if (!this.#app.store.state.users[userStat.userId]) this.#app.sync?.wantUser(userStat.userId);
  }

  #command(m: IMP2PCmdMsg) {
    if (m.fromUserId === this.#app.me) return;
    const on = readTyping(m.cmdMsgData);
    if (on === undefined) return;
    const until = on ? Date.now() + typingFor : 0;
    const { store } = this.#app;
    store.set("typing", m.fromUserId, until);
    if (on) setTimeout(() => {
      if (store.state.typing[m.fromUserId] === until) store.set("typing", m.fromUserId, 0);
    }, typingFor);
  }

  #members(m: IMGroupChangeMemberNotify) {
    const { store, sync, me } = this.#app;
    store.setMembers(m.groupId, m.curUserIdList);
    if (m.curUserIdList.includes(me)) {
      sync?.wantGroup(m.groupId);
      if (m.chgUserIdList.includes(me)) store.listGroup(m.groupId);
    }
    for (const id of m.chgUserIdList) sync?.wantUser(id);
    this.#app.keep();
  }
}
