//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// axe is axe-core, which finds what keeps people from using a page: too little contrast, parts that
// a screen reader cannot name, and those that need a mouse.
var axe = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("../../../handlers/web/page/tests/axe.min.js")
	return string(b), err
})

// The rules that a check looks at, as options of axe.run. Most need no colours, and colours no
// language.
const (
	allRules    = `{}`
	colours     = `{runOnly: ["color-contrast"]}`
	notColours  = `{rules: {"color-contrast": {enabled: false}}}`
	axeFindings = `axe.run(document, Object.assign(%s, {resultTypes: ["violations"]})).then(r =>
		r.violations.filter(v => v.impact === "serious" || v.impact === "critical").flatMap(v =>
			v.nodes.map(n => v.id + ": " + n.failureSummary.replace(/\s+/g, " ") + " " + n.html)))`
)

// still waits until nothing on the page moves, except what moves for ever.
func (p *person) still() {
	p.t.Helper()
	p.sees("the page to be still", "document.getAnimations().every(a => "+
		"a.playState !== 'running' || a.effect.getTiming().iterations === Infinity)")
}

// emulate sends a command that changes what the tab emulates.
func emulate[P, R any](p *person, command cdp.Command[P, R], params P) {
	p.t.Helper()
	p.does(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, command, params)
		return err
	}))
}

// prefers sets the colours that the system of the user asks for: light or dark.
func (p *person) prefers(scheme string) {
	p.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"}}
	emulate(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
}

// accessible checks what the page shows by some rules: no finding may be serious or critical.
func (p *person) accessible(what, rules string) {
	p.t.Helper()
	script, err := axe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.still()
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("if (!window.axe) {"+script+
		"}; true")); err != nil {
		p.t.Fatal(err)
	}
	found, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](
		fmt.Sprintf(axeFindings, rules), chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s, %s: %v", p.name, what, err)
	}
	if len(found) > 0 {
		p.t.Errorf("%s of %s:\n%s", what, p.name, strings.Join(found, "\n"))
	}
}

// visit shows each part of the page after the other, and calls check for each.
func (p *person) visit(other string, check func(what string)) {
	p.t.Helper()
	p.sees("the form", "document.querySelector(%q)", named("login-submit"))
	check("login")
	p.logsIn("demo")
	p.clicks(named("tab-contacts"))
	p.sees("the other user", "document.querySelector(%q)", contact(other))
	check("contacts")
	p.clicks(contact(other))
	p.writes("A text of " + p.name)
	p.has("A text of "+p.name, "stored")
	p.clicks(named("tab-chats"))
	p.sees("the conversation in the list", "document.querySelector(%q)", contact(other))
	check("conversation")
	p.clicks(named("new-group"))
	p.sees("the dialog", "document.querySelector(%q)", named("create-group")+" "+named("pick"))
	check("group dialog")
	p.presses("Escape")
	p.sees("no dialog", "!document.querySelector(%q)", named("create-group"))
	p.opensMenu()
	check("settings")
}

// presses presses a key.
func (p *person) presses(key string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](fmt.Sprintf("(document.activeElement || "+
		"document.body).dispatchEvent(new KeyboardEvent('keydown', {key: %q, bubbles: true, "+
		"cancelable: true}))", key)))
	if err != nil {
		p.t.Fatal(err)
	}
}

// opensMenu opens the menu of the page, which opens when a pointer goes down.
func (p *person) opensMenu() {
	p.t.Helper()
	p.sees("the menu", "document.querySelector('[role=menu]') || (document.querySelector(%q)"+
		".dispatchEvent(new PointerEvent('pointerdown', {bubbles: true, button: 0, "+
		"pointerType: 'mouse'})), false)", named("menu"))
}

// TestPageAccessible looks at each part of the page with axe-core, in light and dark colours and in
// Chinese.
func TestPageAccessible(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser: not with -short")
	}
	t.Parallel()
	takeProcessor(t)
	chromium := browser(t)
	_, page := startDemo(t)
	alice := opens(t, chromium, page.url("/"), "alice")
	alice.visit("bob", func(what string) {
		alice.prefers("dark")
		alice.accessible(what+" in dark", colours)
		alice.prefers("light")
		alice.accessible(what, allRules)
	})
	bob := opens(t, chromium, page.url("/"), "bob")
	bob.prefers("light")
	bob.sees("Chinese", "document.documentElement.lang === 'zh' || ([...document."+
		"querySelectorAll('button')].find(b => b.innerText === '中文')?.click(), false)")
	bob.visit("alice", func(what string) { bob.accessible(what+" in Chinese", notColours) })
	bob.sees("Chinese", "document.querySelector('[role=menu]').innerText.includes('退出登录')")
}

// TestPageNarrow lets a user chat on the screen of a phone: nothing is wider than it, and Back
// leads from the conversation to the list.
func TestPageNarrow(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser: not with -short")
	}
	t.Parallel()
	takeProcessor(t)
	chromium := browser(t)
	_, page := startDemo(t)
	alice := opens(t, chromium, page.url("/"), "alice")
	emulate(alice, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: 320, Height: 568, DeviceScaleFactor: 2, Mobile: true})
	fits := func(what string) {
		t.Helper()
		alice.sees(what+" to fit", "document.documentElement.scrollWidth <= 320 && "+
			"[...document.querySelectorAll('button, input, textarea')].every(e => { "+
			"const r = e.getBoundingClientRect(); "+
			"return !r.width || r.left >= 0 && r.right <= 320 })")
	}
	const shown = "document.querySelector(%q)?.checkVisibility() === %t"
	alice.sees("the form", "document.querySelector(%q)", named("login-submit"))
	fits("login")
	alice.logsIn("demo")
	alice.clicks(named("tab-contacts"))
	alice.sees("bob", "document.querySelector(%q)", contact("bob"))
	fits("contacts")
	alice.clicks(contact("bob"))
	alice.sees("no list", shown, named("tab-contacts"), false)
	alice.writes(strings.Repeat("longest", 40) + " https://example.com/" + strings.Repeat("x", 200))
	alice.has("longest", "stored")
	fits("conversation")
	// After a reload the messages of the cache are all that there are.
	alice.does(chromedp.Reload())
	alice.sees("the beginning", "document.querySelector(%q)", named("beginning"))
	alice.clicks(named("back"))
	alice.sees("the list", shown, named("tab-contacts"), true)
	alice.sees("no conversation", "!document.querySelector(%q)", named("chat"))
	fits("list")
}
