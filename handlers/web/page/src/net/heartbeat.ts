/** everyFewSeconds calls tick every 5 seconds, also while the page is hidden. */
export function everyFewSeconds(tick: () => void) {
  try {
    const worker = new Worker(new URL("./heartbeat.worker.ts", import.meta.url),
      { type: "module" });
    worker.onmessage = tick;
    worker.onerror = () => {
      worker.terminate();
      setInterval(tick, 5000);
    };
  } catch {
    setInterval(tick, 5000);
  }
}
