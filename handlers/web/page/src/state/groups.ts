import { GroupModifyType, GroupType } from "../gen/base_pb";
import {
  IMGroupChangeMemberReqSchema,
  IMGroupChangeMemberRspSchema,
  IMGroupCreateReqSchema,
  IMGroupCreateRspSchema,
} from "../gen/group_pb";
import type { Connection } from "../net/connection";
import type { Store } from "./store";
import { groupKey, type ConvKey, type Group } from "./types";

/** The error of a change that the server refused. */
export class GroupRefused extends Error {}

/** Groups creates groups and changes their members. Errors are GroupRefused and NoAnswer. */
export class Groups {
  readonly #store: Store;
  readonly #connection: () => Connection | undefined;

  constructor(store: Store, connection: () => Connection | undefined) {
    this.#store = store;
    this.#connection = connection;
  }

  #conn(): Connection {
    const conn = this.#connection();
    if (!conn) throw new GroupRefused("offline");
    return conn;
  }

  get #me(): number {
    return this.#store.state.me?.id ?? 0;
  }

  /** create makes a temporary group of this user and others. */
  async create(name: string, others: number[]): Promise<ConvKey> {
    const members = [...new Set([this.#me, ...others])];
    const answer = await this.#conn().call(IMGroupCreateReqSchema, { userId: this.#me,
      groupType: GroupType.TMP, groupName: name, groupAvatar: "", memberIdList: members },
      IMGroupCreateRspSchema);
    if (answer.resultCode !== 0 || !answer.groupId) throw new GroupRefused("refused");
    this.#store.putGroups([{ id: answer.groupId, version: 0, name: answer.groupName,
      creator: this.#me, normal: false, members: answer.userIdList }]);
    this.#store.listGroup(answer.groupId);
    return groupKey(answer.groupId);
  }

  add(group: number, users: number[]): Promise<void> {
    return this.#change(group, GroupModifyType.ADD, users);
  }

  remove(group: number, users: number[]): Promise<void> {
    return this.#change(group, GroupModifyType.DEL, users);
  }

  /** leave removes this user from a group. */
  leave(group: number): Promise<void> {
    return this.remove(group, [this.#me]);
  }

  /** mayRemove reports whether this user may remove another one. The server decides. */
  mayRemove(group: Group, user: number): boolean {
    return user === this.#me || group.creator === this.#me;
  }

  async #change(group: number, changeType: GroupModifyType, memberIdList: number[]) {
    const answer = await this.#conn().call(IMGroupChangeMemberReqSchema,
      { userId: this.#me, changeType, groupId: group, memberIdList },
      IMGroupChangeMemberRspSchema);
    if (answer.resultCode !== 0) throw new GroupRefused("refused");
    this.#store.setMembers(group, answer.curUserIdList);
  }
}
