import type { LiveData } from "./api";

/** hour is how much of the past is kept, in milliseconds. */
export const hour = 3_600_000;

/** History is the samples of the last hour, with a value of each series for each time; null: not
 * known. */
export interface History {
  times: number[]; // unix milliseconds
  series: Record<string, (number | null)[]>;
}

/** join adds samples to a history. Those that it has already, and those older than an hour, are
 * left out. Samples that end before those that are known are of a server whose clock was set back:
 * the history begins anew. */
export function join(known: History, data: LiveData): History {
  const times = data.times.map((t) => Date.parse(t));
  if (times.length && times.at(-1)! < (known.times.at(-1) ?? 0))
    known = { times: [], series: {} };
  const last = known.times.at(-1) ?? 0;
  const fresh = times.findIndex((t) => t > last);
  if (fresh < 0) return known;
  const all = [...known.times, ...times.slice(fresh)];
  const from = all.findIndex((t) => t > all.at(-1)! - hour);
  const series: History["series"] = {};
  for (const [name, values] of Object.entries(data.series)) {
    const before = known.series[name] ?? known.times.map(() => null);
    series[name] = [...before, ...values.slice(fresh)].slice(from);
  }
  return { times: all.slice(from), series };
}

/** known reports whether a series has a value. */
export const known = (values?: (number | null)[]) => !!values?.some((v) => v !== null);

/** lastOf returns the newest value that is known. */
export function lastOf(values?: (number | null)[]): number | null {
  return values?.findLast((v) => v !== null) ?? null;
}

/** ceiling returns the smallest number of the form 1, 2 or 5 times a power of ten that is not below
 * a value: the end of an axis. */
export function ceiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 5, 10]) if (step * power >= value * (1 - 1e-9)) return step * power;
  return 10 * power;
}

/** line returns the path of an SVG line through values, on an area of a width and a height that
 * ends at a time. A value that is not known interrupts it, and a single value is a short stroke. */
export function line(times: number[], values: (number | null)[], end: number, top: number,
  width: number, height: number): string {
  let path = "";
  let pen = false;
  values.forEach((v, i) => {
    if (v === null) {
      pen = false;
      return;
    }
    const x = (width * (1 - (end - times[i]!) / hour)).toFixed(1);
    const y = (height * (1 - Math.min(v, top) / top)).toFixed(1);
    path += pen ? `L${x} ${y}` : `M${x} ${y}h1`;
    pen = true;
  });
  return path;
}
