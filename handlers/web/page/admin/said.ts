import { language } from "../src/ui/language";

/**
 * What the server says in English, and the same in Chinese with the parts in brackets as $1 and
 * so on. Programs and commands get these texts as well, so the server has them in one language. A
 * text that is missing here is shown as it is.
 */
const said: readonly (readonly [RegExp, string])[] = [
  [/^the token is wrong$/, "令牌错误"],
  [/^too many wrong tokens from this address$/, "此地址的错误令牌次数过多，请稍后再试"],
  [/^the token may only read: .*$/, "此令牌只能查看，此操作需要管理员令牌"],
  [/^the file of tokens cannot be read: .*$/, "无法读取令牌文件，原因见服务器日志"],
  [/^not from the pages of another site$/, "不接受其他网站页面的请求"],
  [/^too many calls at a time$/, "同时进行的操作过多，请稍后再试"],
  [/^a server or a database that the call needs is not reachable$/,
    "此操作所需的服务器或数据库无法访问"],
  [/^the server failed: its log has the reason$/, "服务器出错，原因见服务器日志"],
  [/^the body is longer than (\d+) bytes$/, "内容超过 $1 字节"],

  [/^no user has the name or id ("[^]*"); see teamtalk user list$/, "没有名称或编号为 $1 的用户"],
  [/^no user has the name ("[^]*"); see teamtalk user list$/, "没有名称为 $1 的用户"],
  [/^(?:no user has id|user) (\d+)(?: does not exist)?$/, "没有编号为 $1 的用户"],
  [/^([^]*) was deleted meanwhile$/, "$1 已被删除"],
  [/^the name ("[^]*") is taken$/, "名称 $1 已被使用"],
  [/^the name ("[^]*") is taken; no user was added [^]*$/, "名称 $1 已被使用，没有添加任何用户"],
  [/^others take the name ("[^]*") or the nick ("[^]*") for official: [^]*$/,
    "名称 $1 或昵称 $2 容易被误认为官方账号；如仍要使用，请勾选允许此类名称的选项"],
  [/^others take the nick ("[^]*") for official: [^]*$/, "昵称 $1 容易被误认为官方账号"],
  [/^a user needs a nick$/, "昵称不能为空"],
  [/^a (?:user|group|department) needs a name$/, "名称不能为空"],
  [/^the password is empty$/, "密码不能为空"],
  [/^the password holds a control character, such as a line end$/, "密码不能含有换行等控制字符"],
  [/^("[^]*") is no address$/, "$1 不是有效的地址"],
  [/^([^]*) is disabled; first: teamtalk user enable [^]*$/, "$1 已停用，请先启用"],
  [/^nothing was changed$/, "没有做任何更改"],
  [/^… and (\d+) more problems$/, "……另有 $1 个问题"],

  [/^no department has the name, path or id ("[^]*"); see teamtalk depart list$/,
    "没有名称、路径或编号为 $1 的部门"],
  [/^(\d+) departments have the name ("[^]*"); give the path or id of one: ([^]*)$/,
    "有 $1 个部门名为 $2，请指定路径或编号：$3"],
  [/^no department has (?:the )?id (\d+)$/, "没有编号为 $1 的部门"],
  [/^department (\d+) does not exist$/, "没有编号为 $1 的部门"],
  [/^department (\d+) was deleted meanwhile$/, "部门 $1 已被删除"],
  [/^department \d+ has users in it: (\d+)$/, "部门中还有 $1 个用户，请先移出"],

  [/^no group has the name or id ("[^]*"); see teamtalk group list$/,
    "没有名称或编号为 $1 的群组"],
  [/^(\d+) groups have the name ("[^]*"); give the id of one: ([^]*)$/,
    "有 $1 个群组名为 $2，请指定编号：$3"],
  [/^no group has the id (\d+)$/, "没有编号为 $1 的群组"],
  [/^group (\d+) does not exist$/, "没有编号为 $1 的群组"],
  [/^users join group (\d+) all the time: try again$/, "不断有用户加入群组 $1，请重试"],

  [/^the registry is off \(setting registry\.enabled\)$/, "注册中心未启用（设置 registry.enabled）"],
  [/^no process ([^]*) is registered with these roles: ([^]*)$/, "进程 $1 没有注册这些角色：$2"],
  [/^the level of this process cannot be changed$/, "此进程的日志级别不能更改"],
  [/^the settings do not allow to read messages [^]*$/,
    "设置不允许查看消息（设置 admin_api.messages）"],
  [/^want user, and one of peer and group$/, "请填写用户，并填写对方用户或群组之一"],
  [/^want 1 to (\d+) ids$/, "请填写 1 至 $1 个消息编号"],
  [/^(\w+)=("[^]*") is no number(?: from [^]*)?$/, "$2 不是有效的编号"],

  [/^the file is empty; [^]*$/, "文件为空，首行应为列名，例如 name,password,nick,email"],
  [/^there are no users below the header$/, "列名下方没有用户"],
  [/^there is no column "name"; [^]*$/, "缺少 name 列，首行应为列名，例如 name,password,nick,email"],
  [/^there is no column ("[^]*"); [^]*$/,
    "不支持 $1 列，可用的列为 name、password、nick、domain、gender、phone、email、avatar 和 " +
      "department，以逗号分隔"],
  [/^the header names column ("[^]*") twice$/, "$1 列重复"],
  [/^the name ("[^]*") is in line (\d+) already$/, "名称 $1 已出现在第 $2 行"],
  [/^(\d+) fields where the header has (\d+)$/, "此行有 $1 个字段，而列名有 $2 个"],
  [/^([^]*: )?the file is not UTF-8: save it as CSV UTF-8$/, "文件不是 UTF-8 编码，请另存为 CSV UTF-8"],
];

/** inLanguage returns a text of the server in the language of the page. */
export function inLanguage(text: string): string {
  if (language() !== "zh") return text;
  return text.split("\n").map((line) => {
    const [, at, rest] = /^line (\d+): ([^]*)$/.exec(line) ?? [];
    if (at && rest) return `第 ${at} 行：${one(rest)}`;
    return one(line);
  }).join("\n");
}

function one(line: string): string {
  for (const [form, chinese] of said) if (form.test(line)) return line.replace(form, chinese);
  return line;
}

/** isKnown reports whether a text of the server has a translation. */
export const isKnown = (text: string) => text.split("\n")
  .every((line) => said.some(([form]) => form.test(line.replace(/^line \d+: /, ""))));
