import { createContext, useContext } from "solid-js";
import type { App } from "../state/app";

export const AppContext = createContext<App>();

/** useApp returns the App of the page. */
export function useApp(): App {
  const app = useContext(AppContext);
  if (!app) throw new Error("no App around this component");
  return app;
}
