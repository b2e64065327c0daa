import { createSignal, Match, Switch } from "solid-js";
import { render } from "solid-js/web";
import { loadConfig } from "./net/http";
import { App } from "./state/app";
import { Ended } from "./ui/Banner";
import { AppContext } from "./ui/context";
import { t } from "./ui/i18n";
import { Login } from "./ui/Login";
import { Shell } from "./ui/Shell";
import "./ui/theme";
import "./style.css";

function Root() {
  const [app, setApp] = createSignal<App>();
  const [problem, setProblem] = createSignal("");

  async function begin() {
    setProblem("");
    try {
      const app = new App(await loadConfig());
      document.title = app.config.name;
      await app.resume();
      setApp(app);
    } catch (err) {
      setProblem(String(err));
    }
  }
  void begin();

  return (
    <Switch>
      <Match when={problem()}>
        <main class="login">
          <div class="card">
            <p role="alert">{t("noServer", { text: problem() })}</p>
            <button class="primary" onClick={() => void begin()}>{t("reload")}</button>
          </div>
        </main>
      </Match>
      <Match when={app()}>
        {(app) => (
          <AppContext.Provider value={app()}>
            <Switch fallback={<><Login />{app().store.state.elsewhere && <Ended />}</>}>
              <Match when={app().login() && app().store.state.me}><Shell /></Match>
            </Switch>
          </AppContext.Provider>
        )}
      </Match>
    </Switch>
  );
}

render(() => <Root />, document.getElementById("root")!);
