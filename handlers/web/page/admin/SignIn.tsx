import { createSignal, onMount, Show } from "solid-js";
import { language, setLanguage } from "../src/ui/language";
import { ended, signIn } from "./api";
import { failure, t } from "./i18n";

/** local reports whether nobody on a network can read what the page sends. */
const local = location.protocol === "https:" ||
  ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

/** SignIn takes a token and exchanges it for a session. */
export function SignIn() {
  const [token, setToken] = createSignal("");
  const [problem, setProblem] = createSignal(ended() ? t("sessionEnded") : "");
  const [busy, setBusy] = createSignal(false);
  let field!: HTMLInputElement;
  onMount(() => field.focus());

  async function submit(ev: SubmitEvent) {
    ev.preventDefault();
    if (busy()) return;
    setBusy(true);
    setProblem("");
    try {
      await signIn(token().trim());
    } catch (err) {
      setProblem(failure(err));
      setToken("");
      field.focus();
    } finally {
      setBusy(false);
    }
  }

  return (
    <main class="login">
      <form class="card" onSubmit={submit} aria-busy={busy()}>
        <h1 class="brand"><span class="logo" aria-hidden="true" />{t("title")}</h1>
        <Show when={!local}><p class="problem">{t("plainHttp")}</p></Show>
        <label>
          {t("token")}
          <input ref={field} data-test="token" type="password" required autocomplete="off"
            value={token()} aria-describedby="token-hint"
            onInput={(ev) => setToken(ev.currentTarget.value)} />
          <small id="token-hint">{t("tokenHint")}</small>
        </label>
        <p class="problem" role="alert" data-test="sign-in-problem">{problem()}</p>
        <button class="primary" data-test="sign-in" disabled={busy()}>{t("signIn")}</button>
      </form>
      <button class="plain" onClick={() => setLanguage(language() === "zh" ? "en" : "zh")}>
        {t("language")}
      </button>
    </main>
  );
}
