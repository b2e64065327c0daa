import { createSignal, onCleanup, Show } from "solid-js";
import { play } from "../sound/player";
import { NoSound } from "../sound/speex";
import { Icon } from "./Icon";
import { t } from "./i18n";

/** SoundView is a button that plays a sound. */
export function SoundView(props: { seconds: number; data?: Uint8Array<ArrayBuffer> }) {
  const [stop, setStop] = createSignal<() => void>();
  const [busy, setBusy] = createSignal(false);
  const [problem, setProblem] = createSignal("");
  onCleanup(() => stop()?.());

  async function toggle() {
    const playing = stop();
    if (playing) return playing();
    if (!props.data || busy()) return;
    setBusy(true);
    setProblem("");
    try {
      const end = await play(props.data, () => setStop(undefined));
      setStop(() => end);
    } catch (err) {
      setProblem(err instanceof NoSound ? t("soundUnknown") : t("soundFailed"));
    } finally {
      setBusy(false);
    }
  }

  return (
    <>
      <button class="sound" classList={{ playing: !!stop() }} data-test="sound" disabled={busy()}
        aria-pressed={!!stop()} onClick={() => void toggle()}>
        <span class="round"><Icon name={stop() ? "stop" : "play"} /></span>
        <Icon name="sound" />
        {t("sound", { n: props.seconds })}
      </button>
      <Show when={problem()}><span class="failure" role="alert">{problem()}</span></Show>
    </>
  );
}
