import { createSignal, For, Show } from "solid-js";
import { locale, size } from "../src/ui/language";
import { get, session, type LiveData, type Metric } from "./api";
import { ceiling, hour, join, known, lastOf, line, type History } from "./history";
import { duration, failure, number, t, type Key } from "./i18n";
import { createLoad, Page, repeat, Table } from "./parts";

/** charts are the charts with their series. One without a series that is known is not shown: the
 * process does not run the role. */
const charts: readonly { title: Key; series: string[]; text: (n: number) => string }[] = [
  { title: "chartConnections", series: ["connections", "clients_online", "users_online"],
    text: number },
  { title: "chartMessages", series: ["messages_received_per_s", "messages_stored_per_s",
    "deliveries_per_s"], text: number },
  { title: "chartAck", series: ["ack_p50_s", "ack_p99_s"], text: duration },
  { title: "chartBatch", series: ["batch_p50_s", "batch_p99_s"], text: duration },
  { title: "chartQueues", series: ["logins_waiting", "message_queue", "store_queue",
    "calls_pending", "push_queue"], text: number },
  { title: "chartFrames", series: ["frames_per_s", "pushes_per_s"], text: number },
  { title: "chartTraffic", series: ["bytes_written_per_s", "file_bytes_per_s"], text: size },
];

/** Live shows what the process did in the last hour, and what it dropped or refused. */
export function Live() {
  const [history, setHistory] = createSignal<History>({ times: [], series: {} });
  const [problem, setProblem] = createSignal("");

  let busy = false; // an older answer must not follow a newer one

  async function sample(minutes: number) {
    busy = true;
    try {
      const data = await get<LiveData>("/v1/live", { step: 10, minutes });
      setHistory(join(history(), data));
      setProblem("");
    } catch (err) {
      setProblem(failure(err));
    } finally {
      busy = false;
    }
  }
  void sample(60);
  // After a time in the background the page asks for all that it has missed. The clock of this
  // machine may differ from that of the server.
  let asked = Date.now();
  repeat(10, () => {
    if (busy) return;
    const missed = Math.ceil((Date.now() - asked) / 60_000) + 1;
    asked = Date.now();
    return sample(problem() || !history().times.length ? 60 : Math.min(60, Math.max(1, missed)));
  });

  const drops = createLoad(() => get<{ metrics: Metric[] }>("/v1/metrics",
    { label: "reason", nonzero: true }));
  repeat(30, drops.reload);
  const dropped = () => (drops.data()?.metrics ?? []).filter((m) => m.type === "counter");

  return (
    <Page title={t("live")} hint={t("liveHint", { name: session()!.process })}
      problem={problem() || drops.problem()}>
      <Show when={history().times.length} fallback={<p class="hint">{t("noSamples")}</p>}>
        <div class="charts">
          <For each={charts}>
            {(c) => (
              <Show when={c.series.some((s) => known(history().series[s]))}>
                <Chart title={t(c.title)} history={history()} text={c.text}
                  series={c.series.filter((s) => known(history().series[s]))} />
              </Show>
            )}
          </For>
        </div>
      </Show>
      <section class="panel-box">
        <h2>{t("drops")}</h2>
        <Table rows={dropped()} empty={t("noDrops")} test="drop" columns={[
          { name: t("what"), cell: (m) => m.name.replace(/^teamtalk_/, "") },
          { name: t("result"), cell: (m) =>
            Object.entries(m.labels).map(([k, v]) => `${k}=${v}`).join(" ") },
          { name: "", cell: (m) => number(m.value) },
        ]} />
      </section>
    </Page>
  );
}

const width = 600;
const height = 150;

/** Chart draws series of the last hour as lines, with their newest values, or those below the
 * pointer. */
function Chart(props: {
  title: string;
  history: History;
  series: string[];
  text: (n: number) => string;
}) {
  const [at, setAt] = createSignal<number>(); // index of the sample below the pointer
  const end = () => props.history.times.at(-1)!;
  const values = (name: string) => props.history.series[name]!;
  const top = () => ceiling(Math.max(0, ...props.series.flatMap((s) =>
    values(s).map((v) => v ?? 0))));
  const x = (time: number) => width * (1 - (end() - time) / hour);
  const value = (name: string) => {
    const i = at();
    return i === undefined ? lastOf(values(name)) : values(name)[i] ?? null;
  };
  const text = (v: number | null) => (v === null ? "–" : props.text(v));
  const clock = (time: number) => new Date(time).toLocaleTimeString(locale(),
    { hour: "2-digit", minute: "2-digit", second: "2-digit" });

  function point(ev: PointerEvent & { currentTarget: SVGSVGElement }) {
    const box = ev.currentTarget.getBoundingClientRect();
    const time = end() - hour * (1 - (ev.clientX - box.left) / box.width);
    let nearest = 0;
    props.history.times.forEach((one, i) => {
      if (Math.abs(one - time) < Math.abs(props.history.times[nearest]! - time)) nearest = i;
    });
    setAt(nearest);
  }

  return (
    <figure class="panel-box" data-test="chart">
      <figcaption>
        <h2>{props.title}</h2>
        <span class="text">
          {at() === undefined ? t("now") : clock(props.history.times[at()!]!)}
        </span>
      </figcaption>
      <div class="plot">
        <span class="axis">{props.text(top())}</span>
        <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img"
          aria-label={props.title + ": " + props.series.map((s) =>
            `${t(("s_" + s) as Key)} ${text(lastOf(values(s)))}`).join(", ")}
          onPointerMove={point} onPointerLeave={() => setAt(undefined)}>
          <For each={[0, 0.25, 0.5, 0.75, 1]}>
            {(part) => <path class="grid" d={`M${width * part} 0V${height}`} />}
          </For>
          <path class="grid" d={`M0 ${height / 2}H${width}M0 ${height}H${width}M0 0H${width}`} />
          <For each={props.series}>
            {(s, i) => <path class={"series k" + i()}
              d={line(props.history.times, values(s), end(), top(), width, height)} />}
          </For>
          <Show when={at() !== undefined}>
            <path class="cursor" d={`M${x(props.history.times[at()!]!)} 0V${height}`} />
          </Show>
        </svg>
        <div class="times text">
          <span>−60 min</span><span>−30 min</span><span>{t("now")}</span>
        </div>
      </div>
      <ul class="legend">
        <For each={props.series}>
          {(s, i) => (
            <li><span class={"key k" + i()} />{t(("s_" + s) as Key)}
              <b data-test={"value-" + s}>{text(value(s))}</b></li>
          )}
        </For>
      </ul>
    </figure>
  );
}
