//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"teamtalk/cmd/teamtalk/internal/persona"
	"teamtalk/core/cert/certtest"
	"teamtalk/core/dbprog"
)

// sharedBrowser is the Chromium of this process. A start takes as much processor time as a short
// test, so all tests share it. Each person has a profile of its own.
var sharedBrowser struct {
	once sync.Once
	ctx  context.Context
	end  func()
	err  error
}

// browser returns the context in which tabs of this process's Chromium open. The first call starts
// it. Without Chromium it skips the test, and fails it with CI=true.
func browser(t *testing.T) context.Context {
	t.Helper()
	needsChromium(t)
	b := &sharedBrowser
	b.once.Do(func() { b.ctx, b.end, b.err = startBrowser() })
	if b.err != nil {
		t.Fatal(b.err)
	}
	return limited(t, b.ctx)
}

// closeBrowser ends this process's Chromium.
func closeBrowser() {
	if sharedBrowser.end != nil {
		sharedBrowser.end()
	}
}

// ownBrowser starts a Chromium with flags of its own, which the end of the test ends.
func ownBrowser(t *testing.T, flags ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	needsChromium(t)
	ctx, end, err := startBrowser(flags...)
	t.Cleanup(end)
	if err != nil {
		t.Fatal(err)
	}
	return limited(t, ctx)
}

// limited returns a context of a browser for one test.
func limited(t *testing.T, browser context.Context) context.Context {
	ctx, cancel := context.WithTimeout(browser, 2*patience)
	t.Cleanup(cancel)
	return ctx
}

// needsChromium skips the test without Chromium, and fails it with CI=true.
func needsChromium(t *testing.T) {
	t.Helper()
	found := dbprog.Find("chromium") != ""
	if !found && os.Getenv("CI") == "true" {
		t.Fatal("needs Chromium, in Debian the package chromium")
	} else if !found {
		t.Skip("needs Chromium, in Debian the package chromium")
	}
}

// startBrowser starts Chromium, which contacts nobody by itself. The caller must call end, also
// after an error.
func startBrowser(flags ...chromedp.ExecAllocatorOption) (ctx context.Context, end func(),
	err error) {
	// Chromium leaves a folder with a socket where temporary files are. Its path must be short.
	temp, err := os.MkdirTemp("", "chromium")
	if err != nil {
		return nil, func() {}, err
	}
	opt := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(dbprog.Find("chromium")), chromedp.Env("TMPDIR="+temp),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en"))
	if os.Getuid() == 0 {
		opt = append(opt, chromedp.Flag("no-sandbox", true))
	}
	allocator, free := chromedp.NewExecAllocator(context.Background(), append(opt, flags...)...)
	ctx, quit := chromedp.NewContext(allocator)
	end = func() {
		quit()
		free()
		os.RemoveAll(temp)
	}
	return ctx, end, chromedp.Do(ctx) // the browser would end with a context that has a limit
}

// person is a user in front of a tab with a profile of its own.
type person struct {
	t    *testing.T
	ctx  context.Context
	name string
}

// opens opens the page in a new tab. What its scripts fail with fails the test, and so does what
// its policy forbids.
func opens(t *testing.T, browser context.Context, url, name string) *person {
	t.Helper()
	ctx, end := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(),
		chromedp.WithListener(func(ev any) {
			switch ev := ev.(type) {
			case *runtime.EventExceptionThrown:
				t.Errorf("the page of %s throws: %+v", name, ev.ExceptionDetails)
			case *log.EventEntryAdded:
				if ev.Entry.Source == log.EntrySourceSecurity {
					t.Errorf("the page of %s: %s", name, ev.Entry.Text)
				}
			}
		}))
	t.Cleanup(end)
	p := &person{t, ctx, name}
	// Both tabs count as the one in front: a list in a tab behind draws nothing.
	p.does(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetFocusEmulationEnabled,
			emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}), chromedp.Navigate(url))
	return p
}

// logsIn logs in at the form.
func (p *person) logsIn(password string) {
	p.t.Helper()
	p.types("login-name", p.name)
	p.types("login-password", password)
	p.clicks(named("login-submit"))
}

// named selects the element of the page with a name for tests.
func named(name string) string { return fmt.Sprintf("[data-test=%q]", name) }

// contact selects a user in the lists, and message a message with a text.
func contact(user string) string { return fmt.Sprintf("[data-test=contact][data-user=%q]", user) }

func (p *person) does(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v; the page says:\n%s", p.name, err, p.text())
	}
}

// clicks waits for an element and clicks on it, by the page's own event: on a busy machine a click
// on a place of the screen misses an element that moves, when a picture above it appears.
func (p *person) clicks(selector string) {
	p.t.Helper()
	p.sees(selector, "(e => e && !e.disabled && (e.click(), true))(document.querySelector(%q))",
		selector)
}

// types inserts a text as an input method does. Three events for each character would take most of
// the time of some tests.
func (p *person) types(name, text string) {
	p.t.Helper()
	p.does(chromedp.Focus(chromedp.CSS(named(name))),
		chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
			_, err := cdp.Call(ctx, tab, input.InsertText, input.InsertTextParams{Text: text})
			return err
		}))
}

// sees waits until an expression of JavaScript is true.
func (p *person) sees(what, expression string, args ...any) {
	p.t.Helper()
	js := fmt.Sprintf("!!("+expression+")", args...)
	until(p.t, p.name+" to see "+what, func() bool {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](js))
		if err != nil {
			p.t.Fatalf("%s does not see %s: %v; the page says:\n%s", p.name, what, err, p.text())
		}
		return ok
	})
}

// text is what the page says, also when the time of the test is over.
func (p *person) text() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}

// messages is an expression: the messages of the open conversation with a text, and the state.
const messages = "[...document.querySelectorAll('[data-test=message][data-state=%s]')]" +
	".filter(m => m.innerText.includes(%q))"

// has waits until the open conversation has a message exactly once, in a state.
func (p *person) has(text, state string) {
	p.t.Helper()
	p.sees(fmt.Sprintf("%q %s", text, state), messages+".length === 1", state, text)
}

// writes sends a text in the open conversation.
func (p *person) writes(text string) {
	p.t.Helper()
	p.types("conversation-input", text)
	p.clicks(named("send"))
}

// attach lets a user send a picture and a file to another one. The other one sees the picture and
// fetches the file. Both have the conversation open.
func attach(from, to *person) {
	t := from.t
	t.Helper()
	photo := filepath.Join(t.TempDir(), "photo.jpg")
	if err := os.WriteFile(photo, picture(t), 0o600); err != nil {
		t.Fatal(err)
	}
	report, _ := writeRandom(t, "annual report.pdf", 3<<20+7)
	from.does(chromedp.SetUploadFiles(chromedp.CSS(named("picture-input")),
		[]string{photo, report}))
	from.clicks(named("send"))
	for _, p := range []*person{from, to} {
		p.sees("the picture", "document.querySelector(%q)?.naturalWidth > 0", named("picture"))
	}
	const file = "[data-test=file][data-name='annual report.pdf'][data-state=%s]"
	from.sees("the file sent", "document.querySelector(%q)", fmt.Sprintf(file, "done"))
	to.clicks(fmt.Sprintf(file, "waiting") + " " + named("file-download"))
	to.sees("the file fetched", "document.querySelector(%q)", fmt.Sprintf(file, "done"))
}

// pass lets a program pass two files on to a user of the page directly. The user takes one and
// declines the other one. The page does not know the program's user yet.
func pass(s *server, page *pages, to *person) {
	t := to.t
	t.Helper()
	to.clicks(named("tab-chats"))
	const password = "long enough"
	equal(t, "answer to carol's registration", page.register("carol", password, "").Code, 0)
	program := persona.Start(persona.Windows(), persona.Options{User: "carol", Password: password,
		Server: "http://" + s.arg("--login.http-listen"), Idle: personaIdle})
	t.Cleanup(program.Close)
	logIn(t, program)
	user := program.UserNamed(to.name)
	if user == 0 {
		t.Fatalf("carol knows no %s", to.name)
	}
	for name, want := range map[string]string{"taken.bin": "done", "declined.bin": ""} {
		ended := make(chan error, 1)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		go func() {
			defer cancel()
			ended <- program.PassFile(ctx, user, name, bytes.Repeat([]byte(name), 30_000))
		}()
		to.clicks(contact("carol"))
		file := fmt.Sprintf("[data-test=file][data-name=%q]", name)
		if want == "done" {
			to.clicks(file + " " + named("file-download"))
			to.sees("the file taken", "document.querySelector(%q)", file+"[data-state=done]")
		} else {
			to.clicks(file + " " + named("file-delete"))
			to.sees("no file", "!document.querySelector(%q)", file)
		}
		if err := <-ended; (err == nil) != (want == "done") {
			t.Errorf("%s: carol's program ends with %v", name, err)
		}
	}
	to.clicks(contact("alice"))
}

// long runs what takes minutes too.
var long = os.Getenv("TEAMTALK_TEST_LONG") != ""

// TestTwoBrowsersTLS is TestTwoBrowsers over HTTPS, which differs in the server only.
func TestTwoBrowsersTLS(t *testing.T) {
	if !long {
		t.Skip("needs TEAMTALK_TEST_LONG")
	}
	cert := certtest.Write(t, t.TempDir(), certtest.Options{})
	takeProcessor(t)
	chromium := ownBrowser(t, chromedp.Flag("ignore-certificate-errors", true))
	s, page := startDemo(t, "--tls.certificate", cert.Certificate, "--tls.key", cert.Key)
	page.tls = &tls.Config{RootCAs: cert.Roots, ServerName: "localhost"}
	page.trust()
	twoBrowsers(t, chromium, s, page)
	equal(t, "WebSockets that this server carries", s.metric("teamtalk_webchat_open", ""), 0.0)
}

// TestTwoBrowsers lets two users chat on the page of a demo: one is told of a text of the other,
// reads it and answers. They exchange a picture and a file, and one makes a group. A text that is
// written while no server runs is stored and delivered once, after the server has returned.
func TestTwoBrowsers(t *testing.T) {
	if testing.Short() {
		t.Skip("two browsers: not with -short")
	}
	t.Parallel()
	takeProcessor(t)
	chromium := browser(t)
	s, page := startDemo(t)
	twoBrowsers(t, chromium, s, page)
}

func twoBrowsers(t *testing.T, chromium context.Context, s *server, page *pages) {
	alice := opens(t, chromium, page.url("/"), "alice")
	bob := opens(t, chromium, page.url("/"), "bob")
	alice.types("login-name", "alice")
	alice.types("login-password", "wrong")
	alice.clicks(named("login-submit"))
	alice.sees("the refusal", "document.querySelector(%q)?.innerText", named("login-error"))
	alice.does(chromedp.Navigate(page.url("/")))
	alice.logsIn("demo")
	bob.logsIn("demo")
	for p, other := range map[*person]string{alice: "bob", bob: "alice"} {
		p.clicks(named("tab-contacts"))
		p.sees("the other user", "document.querySelector(%q)", contact(other))
	}
	alice.clicks(contact("bob"))
	alice.writes("Is <b>this</b> text?")
	alice.has("Is <b>this</b> text?", "stored")

	bob.clicks(named("tab-chats"))
	bob.sees("one unread text", "document.querySelector(%q)?.innerText === '1'",
		contact("alice")+" "+named("unread"))
	bob.clicks(contact("alice"))
	bob.has("Is <b>this</b> text?", "stored")
	bob.sees("no unread text", "!document.querySelector(%q)", named("unread"))
	bob.writes("It is: 你好")
	alice.has("It is: 你好", "stored")

	attach(alice, bob)
	pass(s, page, bob)
	gather(alice, bob)

	s.kill()
	alice.writes("Still there?")
	alice.has("Still there?", "sending")
	s.start()
	alice.has("Still there?", "stored")
	bob.has("Still there?", "stored")
}
