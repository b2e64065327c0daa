import type { Department } from "./api";

/** names returns the names or ids in a text, which spaces or commas separate. */
export const names = (text: string) => text.split(/[\s,，、]+/).filter(Boolean);

/** inside reports whether a department is another one, or lies inside of it. */
export function inside(list: Department[], id: number, of: number): boolean {
  const seen = new Set<number>();
  for (let at = id; at && !seen.has(at); at = list.find((d) => d.id === at)?.parent ?? 0) {
    if (at === of) return true;
    seen.add(at);
  }
  return false;
}

/** depth returns how many departments a department lies inside of. */
export function depth(list: Department[], id: number): number {
  const seen = new Set<number>([id]);
  let at = list.find((d) => d.id === id)?.parent ?? 0;
  for (; at && !seen.has(at); at = list.find((d) => d.id === at)?.parent ?? 0) seen.add(at);
  return seen.size - 1;
}
