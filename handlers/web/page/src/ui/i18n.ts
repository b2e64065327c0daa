import { NoAnswer } from "../net/connection";
import { Fault, faultOf, type FaultKind } from "../net/fault";
import type { Refused } from "../net/http";
import { format, translator } from "./language";

const en = {
  signIn: "Sign in",
  signingIn: "Signing in…",
  name: "Name",
  password: "Password",
  textKey: "Text key",
  textKeyHint: "32 characters, from your administrator. Without it texts are sent unencrypted.",
  staySignedIn: "Stay signed in on this computer",
  cancel: "Cancel",
  close: "Close",
  createAccount: "Create an account",
  haveAccount: "I have an account",
  register: "Create account",
  nick: "Display name",
  invite: "Invite code",
  passwordHint: "At least 8 characters",
  registered: "Your account has been created.",
  noServer: "The server does not answer: {text}",
  reload: "Try again",
  chats: "Chats",
  contacts: "Contacts",
  groups: "Groups",
  search: "Search",
  searchChat: "Search in loaded messages",
  previous: "Previous match",
  next: "Next match",
  matches: "{n} of {of}",
  noMatches: "No match",
  nothingFound: "Nothing found",
  noChats: "No conversations yet. Choose a contact to begin.",
  noGroups: "You are in no group yet.",
  noDepart: "No department",
  welcome: "Choose a conversation",
  welcomeHint: "Or press Ctrl+K to search for a person or a group.",
  back: "Back",
  menu: "Menu",
  more: "More",
  signOut: "Sign out",
  notifications: "Turn on notifications",
  notificationsOn: "Notifications are on",
  notificationsBlocked: "The browser blocks notifications",
  language: "中文",
  theme: "Theme: {name}",
  themeAuto: "automatic",
  themeLight: "light",
  themeDark: "dark",
  online: "Online",
  offline: "Offline",
  typing: "typing…",
  members: "{n} members",
  you: "You",
  message: "Message",
  writeTo: "Write to {name}",
  send: "Send",
  addPicture: "Add pictures",
  addFile: "Add pictures and files",
  fileSent: "Sent. It waits for its receiver.",
  fileFetched: "Downloaded",
  fileFailed: "The file was not transferred: {text}",
  fileDirect: "The sender waits for your answer.",
  decline: "Decline",
  fileGroup: "{name}: only pictures can be sent to a group",
  fileTooLarge: "{name} is empty, or larger than 4 GiB",
  filesWait: "Waiting files: {n}",
  record: "Record a sound",
  recording: "Recording…",
  micDenied: "The browser does not lend the microphone to this page.",
  micFailed: "The microphone cannot be used.",
  picture: "Picture",
  sound: "Sound, {n} s",
  soundShort: "Sound",
  soundUnknown: "This sound has a form that the page cannot play.",
  soundFailed: "The sound could not be played.",
  dropHere: "Drop pictures to send them",
  notPicture: "{name} is no picture",
  tooLarge: "{name} is larger than 10 MiB",
  sending: "Sending",
  stored: "Sent",
  failed: "Not sent",
  failedRejected: "The server refused this message.",
  failedUnanswered: "The server did not store this message.",
  failedOld: "This message waited for a day and may have been sent.",
  failedUpload: "The picture was not uploaded: {text}",
  retry: "Retry",
  discard: "Delete",
  download: "Download",
  newMessages: "New messages",
  toNewest: "To the newest message",
  loadFailed: "Messages could not be loaded.",
  noMessages: "No messages yet",
  beginning: "Beginning of the conversation",
  today: "Today",
  yesterday: "Yesterday",
  unread: "{n} unread",
  newGroup: "New group",
  groupName: "Group name",
  create: "Create",
  addMembers: "Add members",
  add: "Add",
  remove: "Remove {name}",
  removeShort: "Remove",
  leave: "Leave group",
  leaveSure: "Leave this group? You will no longer get its messages.",
  creator: "Creator",
  groupRefused: "The server refused the change.",
  groupOffline: "Not connected. Try again when you are online.",
  groupNoAnswer: "The server did not answer. The change may have been made.",
  notMember: "You are not a member of this group.",
  removeChat: "Remove from the list",
  details: "Details",
  email: "E-mail",
  phone: "Phone",
  depart: "Department",
  sign: "Status",
  connecting: "Connecting…",
  reconnecting: "Connection lost. Connecting again…",
  waiting: "{why} Connecting again in {n} s.",
  connectNow: "Connect now",
  whySilent: "The server no longer answers.",
  whyClosed: "The server closed the connection.",
  whyClosedText: "The server closed the connection: {text}.",
  whyDrain: "The server restarts.",
  whySlow: "Too much was waiting for this page.",
  whyUnreachable: "The server cannot be reached.",
  whyBusy: "The service is not available at the moment.",
  whyBusyText: "The server says: {text}.",
  refused: "The name or the password is wrong.",
  locked: "Too many wrong passwords. Try again later.",
  outdated: "This page is too old for the server. Reload it.",
  kicked: "You were signed out",
  kickedText: "Your account was signed in on another computer.",
  phoneKicked: "Your phone ended this session.",
  signInHere: "Sign in here",
  elsewhere: "Open in another tab",
  elsewhereText: "The chat is open in another tab of this browser. One tab at a time is connected.",
  useHere: "Use it here",
  said: "{name}: {text}",
  unsent: "Messages that have not been sent will be lost: {n}.",
  faultOffline: "not connected",
  faultLost: "the connection ended",
  faultBad: "the server does not take it",
  faultDenied: "the transfer ended, or is another user's",
  faultUnknown: "its file server is not known",
  faultBusy: "the server is busy, try again later",
  faultFailed: "a server failed, try again later",
  faultNotPicture: "this is no picture",
  faultTooLarge: "the file is too large",
  faultEmpty: "the file is empty",
  faultFull: "the server has no more space",
  faultQuota: "your files that are not fetched yet leave no room for another one",
  faultOften: "too many uploads, try again later",
  detail: "{text} ({detail})",
  inviteWrong: "The invite code is wrong.",
  nameForm: "A name has 2 to 32 letters, digits, dots, dashes or underscores.",
  nameTaken: "This name is taken or reserved.",
  nickForm: "This display name is too long, or has a character that cannot be shown.",
  nickTaken: "This display name is reserved.",
  passwordForm: "A password has at least 8 characters, and at most 1,024 bytes.",
  registerClosed: "You cannot create an account from this network.",
  registerOften: "Too many accounts were created. Try again later.",
  registerFailed: "The account was not created: {text}",
  loginElsewhere: "You are signed in on another device.",
  disabled: "This account is disabled.",
  passwordChanged: "The password was changed. Sign in again.",
};

export { language, setLanguage, size } from "./language";

export type Key = keyof typeof en;

const zh: Record<Key, string> = {
  signIn: "登录",
  signingIn: "正在登录…",
  name: "用户名",
  password: "密码",
  textKey: "文本密钥",
  textKeyHint: "32 个字符，由管理员提供。没有密钥时，消息不加密发送。",
  staySignedIn: "在此电脑上保持登录",
  cancel: "取消",
  close: "关闭",
  createAccount: "注册账号",
  haveAccount: "已有账号",
  register: "注册",
  nick: "显示名称",
  invite: "邀请码",
  passwordHint: "至少 8 个字符",
  registered: "账号已创建。",
  noServer: "服务器没有响应：{text}",
  reload: "重试",
  chats: "消息",
  contacts: "联系人",
  groups: "群组",
  search: "搜索",
  searchChat: "搜索已加载的消息",
  previous: "上一个",
  next: "下一个",
  matches: "{n} / {of}",
  noMatches: "没有匹配",
  nothingFound: "没有找到",
  noChats: "还没有会话，请选择联系人开始聊天。",
  noGroups: "您还没有加入群组。",
  noDepart: "未分部门",
  welcome: "请选择一个会话",
  welcomeHint: "或按 Ctrl+K 搜索联系人和群组。",
  back: "返回",
  menu: "菜单",
  more: "更多",
  signOut: "退出登录",
  notifications: "开启通知",
  notificationsOn: "通知已开启",
  notificationsBlocked: "浏览器已禁止通知",
  language: "English",
  theme: "主题：{name}",
  themeAuto: "自动",
  themeLight: "浅色",
  themeDark: "深色",
  online: "在线",
  offline: "离线",
  typing: "正在输入…",
  members: "{n} 位成员",
  you: "我",
  message: "消息",
  writeTo: "发消息给 {name}",
  send: "发送",
  addPicture: "添加图片",
  addFile: "添加图片和文件",
  fileSent: "已上传，等待对方接收。",
  fileFetched: "已下载",
  fileFailed: "文件传输失败：{text}",
  fileDirect: "对方正在等待您的答复。",
  decline: "拒绝",
  fileGroup: "{name}：群组中只能发送图片",
  fileTooLarge: "{name} 为空或超过 4 GiB",
  filesWait: "有 {n} 个文件待接收",
  record: "录制语音",
  recording: "正在录音…",
  micDenied: "浏览器不允许此页面使用麦克风。",
  micFailed: "无法使用麦克风。",
  picture: "图片",
  sound: "语音 {n} 秒",
  soundShort: "语音",
  soundUnknown: "无法播放此格式的语音。",
  soundFailed: "语音播放失败。",
  dropHere: "拖放图片到此处发送",
  notPicture: "{name} 不是图片",
  tooLarge: "{name} 超过 10 MiB",
  sending: "发送中",
  stored: "已发送",
  failed: "未发送",
  failedRejected: "服务器拒绝了此消息。",
  failedUnanswered: "服务器没有保存此消息。",
  failedOld: "此消息已等待一天，可能已经发送。",
  failedUpload: "图片上传失败：{text}",
  retry: "重试",
  discard: "删除",
  download: "下载",
  newMessages: "新消息",
  toNewest: "回到最新消息",
  loadFailed: "消息加载失败。",
  noMessages: "还没有消息",
  beginning: "会话开始",
  today: "今天",
  yesterday: "昨天",
  unread: "{n} 条未读",
  newGroup: "新建群组",
  groupName: "群名称",
  create: "创建",
  addMembers: "添加成员",
  add: "添加",
  remove: "移除 {name}",
  removeShort: "移除",
  leave: "退出群组",
  leaveSure: "确定退出该群组吗？您将不再收到群消息。",
  creator: "群主",
  groupRefused: "服务器拒绝了此操作。",
  groupOffline: "未连接，请在线后重试。",
  groupNoAnswer: "服务器没有响应，更改可能已生效。",
  notMember: "您不是该群成员。",
  removeChat: "从列表中移除",
  details: "详细资料",
  email: "邮箱",
  phone: "电话",
  depart: "部门",
  sign: "签名",
  connecting: "正在连接…",
  reconnecting: "连接已断开，正在重新连接…",
  waiting: "{why}{n} 秒后重新连接。",
  connectNow: "立即连接",
  whySilent: "服务器没有响应。",
  whyClosed: "服务器关闭了连接。",
  whyClosedText: "服务器关闭了连接：{text}。",
  whyDrain: "服务器正在重启。",
  whySlow: "待接收的数据过多。",
  whyUnreachable: "无法连接服务器。",
  whyBusy: "服务暂时不可用。",
  whyBusyText: "服务器消息：{text}。",
  refused: "用户名或密码错误。",
  locked: "密码错误次数过多，请稍后再试。",
  outdated: "页面版本过旧，请刷新页面。",
  kicked: "您已下线",
  kickedText: "您的账号在另一台电脑上登录。",
  phoneKicked: "您的手机结束了此会话。",
  signInHere: "在此登录",
  elsewhere: "已在其他标签页打开",
  elsewhereText: "聊天已在此浏览器的其他标签页中打开，同一时间只有一个标签页保持连接。",
  useHere: "在此使用",
  said: "{name}：{text}",
  unsent: "有 {n} 条消息尚未发送，退出后将丢失。",
  faultOffline: "未连接",
  faultLost: "连接已断开",
  faultBad: "服务器不接受",
  faultDenied: "传输已结束或不属于您",
  faultUnknown: "找不到文件服务器",
  faultBusy: "服务器繁忙，请稍后再试",
  faultFailed: "服务器出错，请稍后再试",
  faultNotPicture: "不是图片",
  faultTooLarge: "文件过大",
  faultEmpty: "文件为空",
  faultFull: "服务器存储空间已满",
  faultQuota: "您发送的文件尚有未被接收的，已占满可用空间",
  faultOften: "上传过于频繁，请稍后再试",
  detail: "{text}（{detail}）",
  inviteWrong: "邀请码错误。",
  nameForm: "用户名为 2 至 32 个字母、数字、点、短横线或下划线。",
  nameTaken: "该用户名已被使用或保留。",
  nickForm: "显示名称过长，或含有无法显示的字符。",
  nickTaken: "该显示名称已保留。",
  passwordForm: "密码至少 8 个字符，最多 1024 字节。",
  registerClosed: "您所在的网络不能注册账号。",
  registerOften: "注册过于频繁，请稍后再试。",
  registerFailed: "账号未创建：{text}",
  loginElsewhere: "您已在其他设备上登录。",
  disabled: "账号已停用。",
  passwordChanged: "密码已更改，请重新登录。",
};

/** t returns a text of the page, with values in place of {names}. */
export const t = translator<Key>(en, zh);

/** Texts of servers that the page has in both languages. */
const served = new Map<string, Key>([["", "refused"], ["用户名/密码错误", "refused"],
  ["用户名/密码错误次数太多", "locked"], ["already logged in on another device", "loginElsewhere"],
  ["帐号已停用 (the account is disabled)", "disabled"],
  ["密码已更改，请重新登录 (the password was changed)", "passwordChanged"]]);

/** refusal returns why a login was refused, in the language of the page if it knows the text. */
export function refusal(text: string): string {
  const key = served.get(text);
  return key ? t(key) : text;
}

/** Texts of servers that cannot do something now, and of the picture server. */
const servers = new Map<string, Key>([["服务端异常", "faultFailed"],
  ["服务端内部错误", "faultFailed"], ["服务器繁忙", "faultBusy"],
  ["服务器繁忙，请稍后再试", "faultBusy"], ["file is too large", "faultTooLarge"],
  ["file is empty", "faultEmpty"], ["存储空间已满", "faultFull"],
  ["服务器磁盘空间不足", "faultFull"],
  ["上传过于频繁，请稍后再试", "faultOften"], ["同时上传的文件过多，请稍后再试", "faultOften"]]);

/** whyBusy returns why the servers take no login now. */
export function whyBusy(text: string): string {
  const key = servers.get(text);
  if (!text || key === "faultFailed") return t("whyBusy");
  return t("whyBusyText", { text: key ? t(key) : text });
}

const faults: Record<FaultKind, Key> = { offline: "faultOffline", lost: "faultLost",
  bad: "faultBad", denied: "faultDenied", unknown: "faultUnknown", busy: "faultBusy",
  failed: "faultFailed", full: "faultFull", quota: "faultQuota", notPicture: "faultNotPicture" };

/** reason returns why something failed, with the words of the server or browser as a detail. */
export function reason(err: unknown): string {
  const said = err instanceof Error ? err.message : String(err);
  const known = servers.get(said);
  if (known) return t(known);
  if (err instanceof NoAnswer) return t("faultLost");
  if (!(err instanceof Fault)) return said;
  const text = t(faults[err.kind]);
  return said ? t("detail", { text, detail: said }) : text;
}

/** Why a registration is refused, by field and error_code. */
const registration: Record<string, Key> = { "invite_code:2": "inviteWrong",
  "user_name:1": "nameForm", "user_name:3": "nameTaken", "nick_name:1": "nickForm",
  "nick_name:3": "nickTaken", "password:1": "passwordForm", ":5": "registerClosed",
  ":8": "registerOften" };

/** notRegistered returns why no account was created. */
export function notRegistered({ field, code, message }: Refused): string {
  const key = registration[`${field}:${code}`];
  return key ? t(key) : t("registerFailed", { text: reason(faultOf(code, message)) });
}

/** clock returns the time of day of a time in seconds. */
export function clock(time: number): string {
  return format(new Date(time * 1000), { hour: "numeric", minute: "2-digit" });
}

/** dayNumber returns a number that is the same for all times of a day. */
export function dayNumber(time: number): number {
  const offset = new Date(time * 1000).getTimezoneOffset();
  return Math.floor((time - offset * 60) / 86_400);
}

/** day returns the name of a day. */
export function day(time: number): string {
  const date = new Date(time * 1000);
  const days = Math.round((midnight(new Date()) - midnight(date)) / 86_400_000);
  if (days === 0) return t("today");
  if (days === 1) return t("yesterday");
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return format(date, { weekday: "long", day: "numeric", month: "long", year });
}

/** shortDate returns the time of a message for the list of conversations. */
export function shortDate(time: number): string {
  const date = new Date(time * 1000);
  const days = Math.round((midnight(new Date()) - midnight(date)) / 86_400_000);
  if (days <= 0) return clock(time);
  if (days < 7) return format(date, { weekday: "short" });
  return format(date, { day: "numeric", month: "numeric" });
}

function midnight(d: Date): number {
  return new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
}
