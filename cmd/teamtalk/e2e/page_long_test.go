//go:build linux

package e2e

import (
	"context"
	"testing"

	browsers "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// watched counts what a page sends and opens. Its clock can be put forward, and its timers stopped,
// which browsers do to hidden pages after some minutes: those of a Worker run on.
const watched = `(() => {
	const w = window.watched = {beats: 0, echoes: 0, sockets: 0, skip: 0, stopped: false};
	const isBeat = b => b.length >= 12 && b[9] === 7 && b[11] === 1;
	const Real = window.WebSocket;
	window.WebSocket = class extends Real {
		constructor(...args) {
			super(...args);
			w.sockets++;
			this.addEventListener("message", e => isBeat(new Uint8Array(e.data)) && w.echoes++);
		}
		send(d) {
			if (isBeat(new Uint8Array(d.buffer, d.byteOffset, d.byteLength))) w.beats++;
			super.send(d);
		}
	};
	const now = Date.now;
	Date.now = () => now() + w.skip;
	for (const name of ["setTimeout", "setInterval"]) {
		const real = window[name];
		window[name] = (f, ms, ...args) => real(() => w.stopped || f(...args), ms);
	}
})()`

// window puts the window of the user's tab into a state. The tab in a minimized one is hidden, like
// a tab behind another one. Without a screen Chromium counts each tab as the one in front.
func (p *person) window(state browsers.WindowState) {
	p.t.Helper()
	p.does(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		at, err := cdp.Call(ctx, tab, browsers.GetWindowForTarget,
			browsers.GetWindowForTargetParams{})
		if err != nil {
			return err
		}
		_, err = cdp.Call(ctx, tab, browsers.SetWindowBounds, browsers.SetWindowBoundsParams{
			WindowID: at.WindowID, Bounds: &browsers.Bounds{WindowState: state}})
		return err
	}))
}

// hides hides the user's tab.
func (p *person) hides() {
	p.t.Helper()
	emulate(p, emulation.SetFocusEmulationEnabled,
		emulation.SetFocusEmulationEnabledParams{Enabled: false})
	p.window(browsers.WindowStateMinimized)
	p.sees("the page to be hidden", "document.hidden")
}

// TestPageHidden keeps a page connected in a hidden tab whose timers do not run any more: its
// heartbeats leave every 30 s of its clock. A text arrives there, and stays unread until the user
// has looked at it.
func TestPageHidden(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser: not with -short")
	}
	t.Parallel()
	takeProcessor(t)
	chromium := browser(t)
	_, site := startDemo(t)
	bob := opens(t, chromium, "about:blank", "bob")
	emulate(bob, page.AddScriptToEvaluateOnNewDocument,
		page.AddScriptToEvaluateOnNewDocumentParams{Source: watched})
	bob.does(chromedp.Navigate(site.url("/")))
	bob.logsIn("demo")
	bob.clicks(named("tab-contacts"))
	bob.clicks(contact("alice"))
	bob.sees("the conversation", "document.querySelector(%q)", named("conversation-input"))
	bob.hides()
	bob.sees("no timer", "watched.stopped = true")
	for n := 1; n <= 3; n++ {
		bob.sees("its clock to move on",
			"(watched.beats = watched.echoes = 0, watched.skip += 31_000)")
		bob.sees("a heartbeat and its echo", "watched.beats > 0 && watched.echoes > 0")
	}
	alice := opens(t, chromium, site.url("/"), "alice")
	alice.logsIn("demo")
	alice.clicks(named("tab-contacts"))
	alice.clicks(contact("bob"))
	alice.writes("Are you there?")
	alice.has("Are you there?", "stored")
	bob.sees("the unread text", "document.title.startsWith('(1)')")
	bob.sees("one connection", "watched.sockets === 1")
	bob.sees("its timers", "!(watched.stopped = false)")
	bob.window(browsers.WindowStateNormal)
	emulate(bob, emulation.SetFocusEmulationEnabled,
		emulation.SetFocusEmulationEnabledParams{Enabled: true})
	bob.sees("nothing unread", "!document.hidden && !document.title.startsWith('(')")
}

// TestPageHiddenLong hides a page for more than three minutes, while Chromium slows its timers. The
// server closes connections that are silent for 45 s.
func TestPageHiddenLong(t *testing.T) {
	if !long {
		t.Skip("needs TEAMTALK_TEST_LONG")
	}
	t.Parallel()
	var throttled []chromedp.ExecAllocatorOption
	for _, flag := range []string{"disable-background-timer-throttling",
		"disable-backgrounding-occluded-windows", "disable-renderer-backgrounding"} {
		throttled = append(throttled, chromedp.Flag(flag, false))
	}
	chromium := ownBrowser(t, throttled...)
	_, site := startDemo(t, "--msg.pc-timeout", "45s")
	bob := opens(t, chromium, "about:blank", "bob")
	emulate(bob, page.AddScriptToEvaluateOnNewDocument,
		page.AddScriptToEvaluateOnNewDocumentParams{Source: watched})
	bob.does(chromedp.Navigate(site.url("/")))
	bob.logsIn("demo")
	bob.sees("the lists", "document.querySelector(%q)", named("tab-contacts"))
	bob.hides()
	bob.sees("the time", "(watched.hidden = performance.now(), watched.slow = 0, "+
		"setInterval(() => watched.slow++, 1000), true)")
	bob.sees("more than three minutes", "performance.now() - watched.hidden > 200_000")
	bob.sees("heartbeats on one connection", "watched.beats >= 6 && watched.sockets === 1")
	slow, err := chromedp.Run(bob.ctx, chromedp.Evaluate[int]("watched.slow"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a timer of one second ran %d times in 200 s", slow)
	equal(t, "the browser slows timers", slow < 190, true)
}
