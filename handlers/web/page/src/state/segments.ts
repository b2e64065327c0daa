export type Segment =
  | { kind: "text"; text: string }
  | { kind: "link"; href: string; text: string }
  /** src is the path from which the page loads the picture; "" when it lies elsewhere. */
  | { kind: "picture"; url: string; src: string; width: number; height: number };

const pictureOpen = "&$#@~^@[{:";
const pictureClose = ":}]&$~@#@";
const link = /https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef\u4e00-\u9fff]+/gi;

/** segments splits a text into plain parts, links and pictures. */
export function segments(text: string): Segment[] {
  const out: Segment[] = [];
  let at = 0;
  while (at < text.length) {
    const open = text.indexOf(pictureOpen, at);
    const close = open < 0 ? -1 : text.indexOf(pictureClose, open + pictureOpen.length);
    if (close < 0) break;
    links(text.slice(at, open), out);
    out.push(picture(text.slice(open + pictureOpen.length, close)));
    at = close + pictureClose.length;
  }
  links(text.slice(at), out);
  return out;
}

/** pictureText returns the text that shows a picture to all clients. */
export function pictureText(url: string): string {
  return pictureOpen + url + pictureClose;
}

/**
 * picturePath returns the path from which the page loads a file of the picture server, or "" for
 * another URL. The page loads from its own server only.
 */
export function picturePath(url: string): string {
  const found = /\/g\d{1,4}\/\d{3}\/\d{3}\/[\w.-]+$/.exec(url);
  return found ? "/msfs" + found[0] : "";
}

function picture(url: string): Segment {
  const size = /_(\d{1,5})x(\d{1,5})\.[a-z0-9]+$/i.exec(url);
  const [width, height] = [Number(size?.[1] ?? 0), Number(size?.[2] ?? 0)];
  return { kind: "picture", url, src: picturePath(url), width, height };
}

function links(text: string, out: Segment[]) {
  let at = 0;
  for (const m of text.matchAll(link)) {
    // A sentence ends behind the link, and a closing bracket belongs to it only with its
    // opening one.
    let found = m[0].replace(/[.,;:!?]+$/, "");
    while (found.endsWith(")") && !found.includes("(")) found = found.slice(0, -1);
    const href = safe(found);
    if (!href) continue;
    if (m.index > at) out.push({ kind: "text", text: text.slice(at, m.index) });
    out.push({ kind: "link", href, text: found });
    at = m.index + found.length;
  }
  if (at < text.length) out.push({ kind: "text", text: text.slice(at) });
}

/** hostOf returns the host of a safe URL: a link whose text is not the URL names it. */
export function hostOf(href: string): string {
  return new URL(href).host;
}

/** safe returns a URL for a link of the page; "" when it is not one of the web. */
export function safe(url: string): string {
  try {
    const parsed = new URL(url);
    // What stands before an @ looks like the host and is not.
    const named = parsed.username || parsed.password;
    return /^https?:$/.test(parsed.protocol) && !named ? parsed.href : "";
  } catch {
    return "";
  }
}
