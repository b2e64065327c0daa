import { createSignal, onCleanup, onMount, Show } from "solid-js";
import { longestRecording, Recorder, type Recorded } from "../sound/recorder";
import { Icon } from "./Icon";
import { t } from "./i18n";

/** RecordBar records a sound until it is sent or cancelled. */
export function RecordBar(props: { send: (sound: Recorded) => void; close: () => void }) {
  const [seconds, setSeconds] = createSignal(0);
  const [problem, setProblem] = createSignal("");
  let recorder: Recorder | undefined;
  let over = false;
  let button!: HTMLButtonElement;

  onMount(() => {
    button.focus();
    Recorder.start().then((started) => {
      if (over) started.cancel();
      else recorder = started;
    }, (err: Error) => setProblem(t(err.name === "NotAllowedError" ? "micDenied" : "micFailed")));
  });
  const timer = setInterval(() => {
    setSeconds(recorder?.seconds ?? 0);
    if (seconds() >= longestRecording) void send();
  }, 200);
  onCleanup(() => {
    over = true;
    clearInterval(timer);
    recorder?.cancel();
  });

  async function send() {
    const done = recorder;
    const give = props.send; // another conversation may be open when the sound is ready
    recorder = undefined;
    if (!done) return;
    try {
      give(await done.stop());
    } catch {
      // too short
    }
    props.close();
  }

  const clock = () => `${Math.floor(seconds() / 60)}:${
    String(Math.floor(seconds() % 60)).padStart(2, "0")}`;

  return (
    <div class="line recording" data-test="recording"
      onKeyDown={(ev) => {
        if (ev.key !== "Escape") return;
        ev.preventDefault();
        props.close();
      }}>
      <button type="button" class="tool" aria-label={t("cancel")} data-test="record-cancel"
        onClick={() => props.close()}><Icon name="close" /></button>
      <span class="text" role="status">
        <Show when={!problem()} fallback={<span class="bad">{problem()}</span>}>
          <span class="live" aria-hidden="true" /> {t("recording")}
        </Show>
      </span>
      <span class="time" aria-hidden="true">{clock()}</span>
      <button ref={button} type="button" class="tool send" aria-label={t("send")}
        data-test="record-send" disabled={!!problem()} onClick={() => void send()}>
        <Icon name="send" />
      </button>
    </div>
  );
}
