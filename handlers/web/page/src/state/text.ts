/** The longest text in one message, in bytes of UTF-8: in cipher it fits into 4,096. */
export const maxText = 3000;

/** splitText cuts a text into messages: at line breaks or spaces where possible. */
export function splitText(text: string): string[] {
  const size = new TextEncoder();
  const out: string[] = [];
  let rest = text;
  while (size.encode(rest).length > maxText) {
    let cut = longest(rest, size);
    const line = rest.lastIndexOf("\n", cut - 1);
    const space = rest.lastIndexOf(" ", cut - 1);
    const at = line > cut / 2 ? line : space > cut / 2 ? space : -1;
    if (at >= 0) cut = at + 1;
    out.push(rest.slice(0, cut).trimEnd());
    rest = rest.slice(cut);
  }
  if (rest.trim()) out.push(rest);
  return out.filter((part) => part !== "");
}

/** longest returns the length of the longest start of a text that fits into a message. */
function longest(text: string, size: TextEncoder): number {
  const { read } = size.encodeInto(text, new Uint8Array(maxText));
  return read;
}

/** The time between two signs of typing, and the time for which one counts, in ms. */
export const typingEvery = 5000;
export const typingFor = 12_000;

const typingService = 1;
const typingOn = (2 << 16) | 1;
const typingOff = (2 << 16) | 2;

/** typingCommand is what existing clients send when their user types. */
export const typingCommand = JSON.stringify({ service_id: typingService, cmd_id: typingOn,
  content: "writing" });

/** readTyping reports whether a command says that a user types; undefined: another command. */
export function readTyping(data: string): boolean | undefined {
  if (data === "typing") return true;
  try {
    const command = JSON.parse(data) as { service_id?: number; cmd_id?: number };
    if (command.service_id !== typingService) return undefined;
    if (command.cmd_id === typingOn) return true;
    if (command.cmd_id === typingOff) return false;
  } catch {
    // not JSON
  }
  return undefined;
}
