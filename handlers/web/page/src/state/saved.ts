/** Login is what logs a user in again after a reload. */
export interface Login {
  name: string;
  /** passwordDigest of the password. It is as good as the password. */
  digest: string;
  /** The key of the text cipher, where the server does not say it. */
  textKey: string;
  /** The login outlives the tab. */
  keep: boolean;
  /** The id of the user; 0: not known yet. */
  user: number;
}

const name = "teamtalk.login";

/** saved keeps the login in the tab, or in the browser if the user asked for that. */
export const saved = {
  load(): Login | undefined {
    try {
      const text = sessionStorage.getItem(name) ?? localStorage.getItem(name);
      return text ? (JSON.parse(text) as Login) : undefined;
    } catch {
      return undefined;
    }
  },
  save(login: Login) {
    try {
      sessionStorage.setItem(name, JSON.stringify(login));
      if (login.keep) localStorage.setItem(name, JSON.stringify(login));
    } catch {
      // The browser keeps nothing: the user logs in again after a reload.
    }
  },
  clear() {
    try {
      sessionStorage.removeItem(name);
      localStorage.removeItem(name);
    } catch {
      // nothing was kept
    }
  },
};

/** drafts keeps unsent input by conversation. localStorage is written at once. */
export const drafts = {
  load(user: number, key: string): string {
    try {
      return localStorage.getItem(`teamtalk.draft.${user}.${key}`) ?? "";
    } catch {
      return "";
    }
  },
  save(user: number, key: string, text: string) {
    try {
      if (text) localStorage.setItem(`teamtalk.draft.${user}.${key}`, text);
      else localStorage.removeItem(`teamtalk.draft.${user}.${key}`);
    } catch {
      // nothing is kept
    }
  },
  /** clear removes all drafts of a user. */
  clear(user: number) {
    try {
      for (const name of Object.keys(localStorage))
        if (name.startsWith(`teamtalk.draft.${user}.`)) localStorage.removeItem(name);
    } catch {
      // nothing was kept
    }
  },
};
