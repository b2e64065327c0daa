import { Fault, faultOf, faultOfStatus } from "./fault";

/** fileURL returns the path at which the page exchanges a stored file. server is host:port. */
export function fileURL(task: string, user: number, server: string): string {
  return `/file/${encodeURIComponent(task)}?user=${user}&server=${encodeURIComponent(server)}`;
}

/** declineFile tells the sender of a direct file that the user does not take it. */
export function declineFile(url: string) {
  void fetch(`${url}&direct=1`, { method: "DELETE" }).catch(() => {}); // the sender may be gone
}

/** postFile uploads a file. progress is called with 0 to 1. The error is a Fault. */
export function postFile(url: string, file: File, progress: (part: number) => void) {
  return new Promise<void>((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report the progress of an upload
    request.open("POST", url);
    request.upload.onprogress = (ev) => ev.total && progress(ev.loaded / ev.total);
    request.onerror = () => reject(new Fault("lost"));
    request.onload = () => {
      let answer: { error_code?: number; error_msg?: string } = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // not an answer of the server
      }
      if (answer.error_code === 0) resolve();
      else if (answer.error_code) reject(faultOf(answer.error_code, answer.error_msg ?? ""));
      else reject(faultOfStatus(request.status, ""));
    };
    request.send(file);
  });
}

/**
 * getFile downloads a file of a known size, in bytes. progress is called with 0 to 1. The error is
 * a Fault.
 */
export async function getFile(url: string, size: number, progress: (part: number) => void) {
  const answer = await fetch(url).catch((err) => {
    throw new Fault("lost", String(err));
  });
  if (!answer.ok || !answer.body)
    throw faultOfStatus(answer.status, (await answer.text().catch(() => "")).trim());
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let got = 0;
  let shown = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((err) => {
      throw new Fault("lost", String(err));
    });
    if (done) break;
    parts.push(value);
    got += value.length;
    if (got - shown > size / 50) progress((shown = got) / size);
  }
  if (got !== size) throw new Fault("lost", `${got} / ${size}`);
  return new Blob(parts);
}
