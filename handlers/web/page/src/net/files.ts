/** fileURL returns the path at which the page exchanges a stored file. server is host:port. */
export function fileURL(task: string, user: number, server: string): string {
  return `/file/${encodeURIComponent(task)}?user=${user}&server=${encodeURIComponent(server)}`;
}

/** postFile uploads a file. progress is called with 0 to 1. The error says what the server said. */
export function postFile(url: string, file: File, progress: (part: number) => void) {
  return new Promise<void>((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report the progress of an upload
    request.open("POST", url);
    request.upload.onprogress = (ev) => ev.total && progress(ev.loaded / ev.total);
    request.onerror = () => reject(new Error("the connection ended"));
    request.onload = () => {
      let answer: { error_code?: number; error_msg?: string } = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // not an answer of the server
      }
      if (answer.error_code === 0) resolve();
      else reject(new Error(answer.error_msg || `status ${request.status}`));
    };
    request.send(file);
  });
}

/** getFile downloads a file of a known size, in bytes. progress is called with 0 to 1. */
export async function getFile(url: string, size: number, progress: (part: number) => void) {
  const answer = await fetch(url);
  if (!answer.ok || !answer.body)
    throw new Error((await answer.text()).trim() || `status ${answer.status}`);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let got = 0;
  let shown = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    got += value.length;
    if (got - shown > size / 50) progress((shown = got) / size);
  }
  if (got !== size) throw new Error(`${got} of ${size} bytes came`);
  return new Blob(parts);
}
