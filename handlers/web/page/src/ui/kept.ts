/** kept is what the browser keeps between visits: nothing, where the user forbids it. */
export const kept = {
  load(name: string): string {
    try {
      return localStorage.getItem(name) ?? "";
    } catch {
      return "";
    }
  },
  save(name: string, text: string) {
    try {
      localStorage.setItem(name, text);
    } catch {
      // it holds until the page is closed
    }
  },
};
