import { createSignal, onMount, Show } from "solid-js";
import { Refused, register } from "../net/http";
import { whyDown } from "./Banner";
import { useApp } from "./context";
import { language, notRegistered, setLanguage, t } from "./i18n";

/** Login is the form for signing in and, where the server allows it, for creating an account. */
export function Login() {
  const app = useApp();
  const { state } = app.store;
  const [fresh, setFresh] = createSignal(false); // creates an account
  const [name, setName] = createSignal(app.login()?.name ?? "");
  const [password, setPassword] = createSignal("");
  const [nick, setNick] = createSignal("");
  const [invite, setInvite] = createSignal("");
  const [textKey, setTextKey] = createSignal("");
  const [keep, setKeep] = createSignal(false);
  const [error, setError] = createSignal("");
  const [creating, setCreating] = createSignal(false);
  let nameField!: HTMLInputElement;
  let passwordField!: HTMLInputElement;
  onMount(() => nameField.focus());

  const busy = () => creating() || (!!app.login() && state.status.kind !== "ended");
  const problem = () => {
    if (error()) return error();
    const s = state.status;
    return s.kind === "waiting" || s.kind === "ended" ? whyDown(s.reason) : "";
  };

  async function submit(ev: SubmitEvent) {
    ev.preventDefault();
    if (busy()) return;
    setError("");
    if (textKey() && new TextEncoder().encode(textKey()).length !== 32) {
      setError(t("textKeyHint"));
      return;
    }
    if (fresh() && !(await create())) return;
    await app.signIn(name().trim(), password(), textKey(), keep());
  }

  async function create(): Promise<boolean> {
    setCreating(true);
    try {
      await register({ user_name: name().trim(), password: password(), nick_name: nick().trim(),
        invite_code: invite().trim() });
      setFresh(false);
      return true;
    } catch (err) {
      setError(err instanceof Refused ? notRegistered(err) : t("noServer", { text: String(err) }));
      if (err instanceof Refused && err.field === "password") passwordField.focus();
      return false;
    } finally {
      setCreating(false);
    }
  }

  return (
    <main class="login">
      <form class="card" onSubmit={submit} aria-busy={busy()}>
        <h1 class="brand"><span class="logo" aria-hidden="true" />{app.config.name}</h1>
        <label>
          {t("name")}
          <input ref={nameField} data-test="login-name" autocomplete="username" required
            autocapitalize="none" spellcheck={false} value={name()} disabled={busy()}
            onInput={(ev) => setName(ev.currentTarget.value)} />
        </label>
        <Show when={fresh()}>
          <label>
            {t("nick")}
            <input data-test="register-nick" maxlength="32" value={nick()} disabled={busy()}
              onInput={(ev) => setNick(ev.currentTarget.value)} />
          </label>
        </Show>
        <label>
          {t("password")}
          <input ref={passwordField} data-test="login-password" type="password" required
            minlength={fresh() ? 8 : undefined} value={password()} disabled={busy()}
            placeholder={fresh() ? t("passwordHint") : ""}
            autocomplete={fresh() ? "new-password" : "current-password"}
            onInput={(ev) => setPassword(ev.currentTarget.value)} />
        </label>
        <Show when={fresh() && app.config.register.invite}>
          <label>
            {t("invite")}
            <input data-test="register-invite" required value={invite()} disabled={busy()}
              onInput={(ev) => setInvite(ev.currentTarget.value)} />
          </label>
        </Show>
        <Show when={!app.config.text_key}>
          <label>
            {t("textKey")}
            <input data-test="login-text-key" value={textKey()} disabled={busy()}
              aria-describedby="text-key-hint" autocomplete="off"
              onInput={(ev) => setTextKey(ev.currentTarget.value)} />
            <small id="text-key-hint">{t("textKeyHint")}</small>
          </label>
        </Show>
        <label class="check">
          <input type="checkbox" data-test="login-keep" checked={keep()} disabled={busy()}
            onChange={(ev) => setKeep(ev.currentTarget.checked)} />
          {t("staySignedIn")}
        </label>
        <p class="problem" role="alert" data-test="login-error">{problem()}</p>
        <button class="primary" data-test="login-submit" disabled={busy()}>
          {busy() ? t("signingIn") : fresh() ? t("register") : t("signIn")}
        </button>
        <Show when={busy() && app.login()}>
          <button type="button" class="plain" onClick={() => void app.signOut()}>
            {t("cancel")}
          </button>
        </Show>
        <Show when={app.config.register.enabled && !busy()}>
          <button type="button" class="plain" data-test="register" onClick={() => {
            setError("");
            setFresh(!fresh());
          }}>
            {fresh() ? t("haveAccount") : t("createAccount")}
          </button>
        </Show>
      </form>
      <button class="plain" onClick={() => setLanguage(language() === "zh" ? "en" : "zh")}>
        {t("language")}
      </button>
    </main>
  );
}
