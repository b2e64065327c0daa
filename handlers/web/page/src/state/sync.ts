import {
  DeviceScope,
  GroupType,
  SessionStatusType,
  UserStatType,
  type UserInfo,
} from "../gen/base_pb";
import {
  IMAllUserReqSchema,
  IMAllUserRspSchema,
  IMDepartmentReqSchema,
  IMDepartmentRspSchema,
  IMRecentContactSessionReqSchema,
  IMRecentContactSessionRspSchema,
  IMUsersInfoReqSchema,
  IMUsersInfoRspSchema,
  IMUsersStatReqSchema,
  IMUsersStatRspSchema,
} from "../gen/buddy_pb";
import {
  IMGroupInfoListReqSchema,
  IMGroupInfoListRspSchema,
  IMNormalGroupListReqSchema,
  IMNormalGroupListRspSchema,
} from "../gen/group_pb";
import { IMUnreadMsgCntReqSchema, IMUnreadMsgCntRspSchema } from "../gen/message_pb";
import type { Connection } from "../net/connection";
import type { TextCipher } from "../proto/cipher";
import { readPreview } from "./messages";
import { preview, type Store } from "./store";
import { idOf, isGroup, keyOf, type Group, type Session, type User } from "./types";

const askAgainAfter = 3000;
/** Users in one request. */
const chunk = 500;

/** Times are the values of latest_update_time for the next sync. */
export interface Times {
  users: number;
  departs: number;
  /** The highest updated_time of an answer. Messages that arrive do not count: others may be
   * missing before them. */
  sessions: number;
}

/** Sync asks for what the page missed, over one connection. It ends with the connection. */
export class Sync {
  readonly #conn: Connection;
  readonly #store: Store;
  readonly #cipher: TextCipher;
  readonly #me: number;
  readonly #times: Times;
  #over = false;
  #wantedUsers = new Set<number>();
  #wantedGroups = new Set<number>();
  #wantedStats = new Set<number>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(conn: Connection, store: Store, cipher: TextCipher, me: number, times: Times) {
    this.#conn = conn;
    this.#store = store;
    this.#cipher = cipher;
    this.#me = me;
    this.#times = times;
  }

  end() {
    this.#over = true;
    clearTimeout(this.#timer);
  }

  /** run asks for everything. It returns when all answers have come. */
  async run(): Promise<void> {
    const sessions = this.#again(() => this.#sessions()).then(() =>
      this.#again(() => this.#unread()));
    await Promise.all([
      sessions,
      this.#again(() => this.#departs()),
      this.#again(() => this.#users()).then(() => this.#stats()),
      this.#again(() => this.#groups()),
    ]);
    this.#strangers();
  }

  /** wantUser asks for a user that the page has to name, soon. */
  wantUser(id: number) {
    if (id && !this.#store.state.users[id]) this.#want(this.#wantedUsers, id);
  }

  /** wantGroup asks for a group, also when the page knows it. */
  wantGroup(id: number) {
    this.#want(this.#wantedGroups, id);
  }

  /** wantStat asks whether a user is online with any device. */
  wantStat(id: number) {
    this.#want(this.#wantedStats, id);
  }

  #want(set: Set<number>, id: number) {
    set.add(id);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#fetchWanted();
    }, 100);
  }

  async #fetchWanted() {
    const take = (set: Set<number>) => {
      const ids = [...set].slice(0, chunk);
      for (const id of ids) set.delete(id);
      return ids;
    };
    const users = take(this.#wantedUsers);
    const groups = take(this.#wantedGroups);
    const stats = take(this.#wantedStats);
    if (users.length) await this.#again(() => this.#usersByID(users));
    if (groups.length)
      await this.#again(() => this.#groupInfo(groups.map((groupId) => ({ groupId, version: 0 }))));
    if (stats.length) await this.#again(() => this.#statsOf(stats));
    const more = this.#wantedUsers.size + this.#wantedGroups.size + this.#wantedStats.size;
    if (more && !this.#timer && !this.#over) await this.#fetchWanted();
  }

  /** #again asks until an answer comes: silence is not an empty list. */
  async #again(ask: () => Promise<void>) {
    while (!this.#over) {
      try {
        return await ask();
      } catch (err) {
        if (this.#over) return;
        console.warn("A query is asked again:", err);
        await new Promise((done) => setTimeout(done, askAgainAfter));
      }
    }
  }

  async #sessions() {
    const answer = await this.#conn.call(IMRecentContactSessionReqSchema,
      { userId: this.#me, latestUpdateTime: this.#times.sessions },
      IMRecentContactSessionRspSchema);
    const fresh: Session[] = [];
    for (const s of answer.contactSessionList) {
      this.#times.sessions = Math.max(this.#times.sessions, s.updatedTime);
      const key = keyOf(s.sessionType, s.sessionId);
      if (s.sessionStatus === SessionStatusType.SESSION_STATUS_DELETE) {
        this.#store.removeSession(key);
        continue;
      }
      const now = this.#store.state.sessions[key];
      const last = preview(readPreview(s.latestMsgType, s.latestMsgData, this.#cipher));
      if (now && now.lastId > s.latestMsgId && now.updated >= s.updatedTime) continue;
      fresh.push({ key, updated: s.updatedTime, lastId: s.latestMsgId,
        lastFrom: s.latestMsgFromUserId, last, unread: now?.unread ?? 0 });
    }
    this.#store.putSessions(fresh);
    this.#store.set("ready", true);
  }

  async #unread() {
    const asked = Math.floor(Date.now() / 1000);
    const answer = await this.#conn.call(IMUnreadMsgCntReqSchema, { userId: this.#me },
      IMUnreadMsgCntRspSchema);
    const counts = new Map(answer.unreadinfoList.map((u) =>
      [keyOf(u.sessionType, u.sessionId), u] as const));
    for (const s of Object.values(this.#store.state.sessions))
      if (!counts.has(s.key)) this.#store.setUnread(s.key, 0);
    for (const [key, u] of counts) {
      const now = this.#store.state.sessions[key];
      if (now && now.lastId >= u.latestMsgId) {
        this.#store.setUnread(key, u.unreadCnt);
        continue;
      }
      const last = preview(readPreview(u.latestMsgType, u.latestMsgData, this.#cipher));
      this.#store.putSessions([{ key, updated: now?.updated ?? asked, lastId: u.latestMsgId,
        lastFrom: u.latestMsgFromUserId, last, unread: u.unreadCnt }]);
    }
  }

  async #departs() {
    const answer = await this.#conn.call(IMDepartmentReqSchema,
      { userId: this.#me, latestUpdateTime: this.#times.departs }, IMDepartmentRspSchema);
    this.#store.putDeparts(answer.deptList.map((d) => ({ id: d.deptId, name: d.deptName,
      parent: d.parentDeptId, priority: d.priority, gone: d.deptStatus !== 0 })));
    this.#times.departs = answer.latestUpdateTime;
  }

  async #users() {
    const answer = await this.#conn.call(IMAllUserReqSchema,
      { userId: this.#me, latestUpdateTime: this.#times.users }, IMAllUserRspSchema, 60_000);
    this.#store.putUsers(answer.userList.map(readUser));
    this.#times.users = answer.latestUpdateTime;
  }

  async #usersByID(ids: number[]) {
    const answer = await this.#conn.call(IMUsersInfoReqSchema,
      { userId: this.#me, userIdList: ids }, IMUsersInfoRspSchema);
    this.#store.putUsers(answer.userInfoList.map(readUser));
  }

  async #stats() {
    const ids = this.#store.everyone().filter((u) => !u.gone).map((u) => u.id);
    for (let at = 0; at < ids.length && !this.#over; at += chunk)
      await this.#again(() => this.#statsOf(ids.slice(at, at + chunk)));
  }

  async #statsOf(ids: number[]) {
    const answer = await this.#conn.call(IMUsersStatReqSchema,
      { userId: this.#me, userIdList: ids, scope: DeviceScope.ANY }, IMUsersStatRspSchema);
    const online = answer.userStatList.map((s) =>
      [s.userId, s.status !== UserStatType.USER_STATUS_OFFLINE] as const);
    this.#store.set("online", Object.fromEntries(online));
  }

  async #groups() {
    const before = new Map(this.#store.allGroups().map((g) => [g.id, g]));
    const answer = await this.#conn.call(IMNormalGroupListReqSchema,
      { userId: this.#me, everyType: true }, IMNormalGroupListRspSchema);
    const known = this.#store.state.groups;
    const stale = answer.groupVersionList.filter((g) =>
      (known[g.groupId]?.version ?? 0) !== g.version || !known[g.groupId]);
    // Groups of conversations that the list leaves out: it may have normal groups only.
    const listed = new Set(answer.groupVersionList.map((g) => g.groupId));
    for (const key of Object.keys(this.#store.state.sessions))
      if (isGroup(key as "g0") && !listed.has(idOf(key as "g0")))
        this.wantGroup(idOf(key as "g0"));
    // A list of all groups lacks those that this user was removed from while it was offline. What
    // has changed since the question is newer than the answer.
    if (answer.everyType)
      for (const g of this.#store.allGroups())
        if (!listed.has(g.id) && before.get(g.id) === g && g.members.includes(this.#me))
          this.#store.setMembers(g.id, g.members.filter((id) => id !== this.#me));
    if (stale.length)
      await this.#groupInfo(stale.map((g) => ({ groupId: g.groupId, version: 0 })));
  }

  async #groupInfo(groups: { groupId: number; version: number }[]) {
    const answer = await this.#conn.call(IMGroupInfoListReqSchema,
      { userId: this.#me, groupVersionList: groups }, IMGroupInfoListRspSchema);
    const list = answer.groupInfoList.map((g): Group => ({ id: g.groupId, version: g.version,
      name: g.groupName, creator: g.groupCreatorId, normal: g.groupType === GroupType.NORMAL,
      members: g.groupMemberList }));
    this.#store.putGroups(list);
    for (const g of list) for (const id of g.members) this.wantUser(id);
  }

  /** #strangers asks for the users of conversations that the list of users leaves out. */
  #strangers() {
    for (const s of Object.values(this.#store.state.sessions)) {
      if (!isGroup(s.key)) this.wantUser(idOf(s.key));
      this.wantUser(s.lastFrom);
    }
  }
}

export function readUser(u: UserInfo): User {
  return { id: u.userId, name: u.userRealName, pinyin: u.userDomain,
    nick: u.userNickName, avatar: u.avatarUrl, depart: u.departmentId, sign: u.signInfo,
    email: u.email, tel: u.userTel, gone: u.status === 3 };
}
