import { createEffect, createSignal, Match, Switch } from "solid-js";
import { render } from "solid-js/web";
import { resume, session } from "./api";
import { failure, t } from "./i18n";
import { Shell } from "./Shell";
import { SignIn } from "./SignIn";
import "../src/ui/theme";
import "../src/base.css";
import "./admin.css";

function Root() {
  const [problem, setProblem] = createSignal("");

  async function begin() {
    setProblem("");
    try {
      await resume();
    } catch (err) {
      setProblem(failure(err));
    }
  }
  void begin();
  createEffect(() => {
    document.title = "TeamTalk · " + t("title");
  });

  return (
    <Switch>
      <Match when={problem()}>
        <main class="login">
          <div class="card">
            <p role="alert">{problem()}</p>
            <button class="primary" onClick={() => void begin()}>{t("retry")}</button>
          </div>
        </main>
      </Match>
      <Match when={session()}><Shell /></Match>
      <Match when={session() === null}><SignIn /></Match>
    </Switch>
  );
}

render(() => <Root />, document.getElementById("root")!);
