//go:build linux

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
)

// scrolling scrolls a list from where it is to an end, in steps of its height or of a number of
// pixels, one in every second frame. It counts the rows that the list holds at most, those that a
// step makes at most, and the steps after which a part in sight has no row. It notes the time
// between frames, and the tasks of more than 50 ms, in ms. Both depend on the machine.
const scrolling = `(async () => {
	const list = document.querySelector(%q), row = %q, step = %d, most = %d;
	const got = {steps: 0, held: 0, made: 0, blank: 0, frames: [], tasks: []};
	let made = 0, last = 0, over = false;
	const watch = new MutationObserver(all => {
		for (const m of all) for (const n of m.addedNodes)
			if (n.nodeType === 1) made += n.matches(row) + n.querySelectorAll(row).length;
	});
	watch.observe(list, {childList: true, subtree: true});
	const tasks = new PerformanceObserver(l => {
		for (const e of l.getEntries()) got.tasks.push(e.duration);
	});
	tasks.observe({type: "longtask"});
	const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
	requestAnimationFrame(function next(t) {
		if (last) got.frames.push(t - last);
		last = t;
		if (!over) requestAnimationFrame(next);
	});
	// What is in sight of the rows' container has no hole between the rows.
	const isBlank = () => {
		const sight = list.getBoundingClientRect(), rows = list.lastElementChild;
		const all = rows.getBoundingClientRect();
		const end = Math.min(sight.bottom, all.bottom) - 2;
		let to = Math.max(sight.top, all.top) + 2;
		for (const r of [...rows.children].map(e => e.getBoundingClientRect())
			.sort((a, b) => a.top - b.top))
			if (r.top <= to) to = Math.max(to, r.bottom + 1);
		return to < end;
	};
	for (;;) {
		made = 0;
		const at = list.scrollTop;
		list.scrollTop += step || %d * list.clientHeight;
		await frame();
		await frame();
		got.held = Math.max(got.held, list.querySelectorAll(row).length);
		got.made = Math.max(got.made, made);
		// What arrives moves rows, which are placed in the frame that follows.
		for (let n = 0; n < 10 && isBlank(); n++) await frame();
		got.blank += isBlank();
		if (list.scrollTop === at || ++got.steps === most) break;
	}
	over = true;
	watch.disconnect();
	tasks.disconnect();
	return got;
})()`

// scroll is how a list is scrolled: its selector, that of its rows, and the direction, -1 or 1.
type scroll struct {
	list, row string
	toward    int
	// pixels is the length of a step; 0: the height of the list.
	pixels int
	// most is the number of steps at most, and bound that of rows held and made by a step.
	most, bound int
}

// scrolled is what scrolling measures.
type scrolled struct {
	Steps, Held, Made, Blank int
	Frames, Tasks            []float64
	// busy is the processor time of the thread that runs the page, in seconds.
	busy float64
}

// add counts a further scroll of the same list.
func (s *scrolled) add(more scrolled) {
	s.Steps += more.Steps
	s.Held, s.Made = max(s.Held, more.Held), max(s.Made, more.Made)
	s.Blank += more.Blank
	s.Frames, s.Tasks = append(s.Frames, more.Frames...), append(s.Tasks, more.Tasks...)
	s.busy += more.busy
}

// frameTime is the time between two frames of a screen of 60 Hz, in ms. A frame is late when one
// before it was left out.
const frameTime = 1000.0 / 60

// String tells the times for readers.
func (s scrolled) String() string {
	frames := slices.Sorted(slices.Values(s.Frames))
	if len(frames) == 0 {
		return "no frame"
	}
	at := func(part float64) float64 { return frames[int(part*float64(len(frames)-1))] }
	late := 0
	for _, ms := range frames {
		if ms > 1.5*frameTime {
			late++
		}
	}
	longest := 0.0
	if len(s.Tasks) > 0 {
		longest = slices.Max(s.Tasks)
	}
	return fmt.Sprintf("%d steps, rows: %d held, %d made by a step, %d steps with a blank part; "+
		"frames: %d, ms p50 %.1f p95 %.1f p99 %.1f longest %.1f, %d late (%.1f %%); "+
		"%d tasks above 50 ms, longest %.0f ms; processor %.2f ms a frame", s.Steps, s.Held, s.Made,
		s.Blank, len(frames), at(0.5), at(0.95), at(0.99), at(1), late,
		100*float64(late)/float64(len(frames)), len(s.Tasks), longest,
		1000*s.busy/float64(len(frames)))
}

// busy returns the processor time that the thread of the page has taken for its tasks, in seconds.
// Unlike the times of frames it hardly depends on what else runs on the machine.
func (p *person) busy() (seconds float64) {
	p.t.Helper()
	p.does(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, performance.Enable, performance.EnableParams{
			TimeDomain: performance.EnableTimeDomainThreadTicks})
		if err != nil {
			return err
		}
		got, err := cdp.Call(ctx, tab, performance.GetMetrics, cdp.Empty{})
		for _, m := range got.Metrics {
			if m.Name == "TaskDuration" {
				seconds = m.Value
			}
		}
		return err
	}))
	return seconds
}

// measures scrolls a list.
func (p *person) measures(what string, s scroll) scrolled {
	p.t.Helper()
	before := p.busy()
	got, err := chromedp.Run(p.ctx, chromedp.Evaluate[scrolled](fmt.Sprintf(scrolling, s.list,
		s.row, s.toward*s.pixels, s.most, s.toward), chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	got.busy = p.busy() - before
	return got
}

// scrolls scrolls a list. Whatever its length, it may hold only the rows near those in sight, and
// make only those of a step anew. No part in sight may be without rows.
func (p *person) scrolls(what string, s scroll) scrolled {
	p.t.Helper()
	got := p.measures(what, s)
	if got.Held == 0 || got.Held > s.bound || got.Made > s.bound || got.Blank > 0 {
		p.t.Errorf("%s: %v, want at most %d rows held and made by a step, and no blank part",
			what, got, s.bound)
	}
	return got
}

// startLong starts a site with 5,000 users. One of them, u00002, has sent messages to u00001.
func startLong(t *testing.T, messages int) *pages {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	mustRun(t, "user", "add", "--count", "5000", "--format", "u%05d", "--password", "pw",
		"--data-dir", data)
	site := &pages{t: t, addr: reserve(t)}
	s := newServer(t, "site", "serve", "--data-dir", data, "--msg.listen", reserve(t),
		"--msg.rate", "0", "--login.http-listen", reserve(t), "--login.client-listen", reserve(t),
		"--msfs.listen", reserve(t), "--msfs.min-free", "0B", "--file.listen", reserve(t),
		"--file.min-free", "0B", "--http.listen", "off", "--web.listen", site.addr)
	s.start()
	_, me := loggedIn(t, s.arg("--msg.listen"), "u00001", android)
	w, _ := loggedIn(t, s.arg("--msg.listen"), "u00002", windows)
	for n := range messages {
		w.sendText(uint16(1+n), me, fmt.Sprint("message ", n))
	}
	return site
}

// TestPageLong scrolls through 5,000 contacts, and through a conversation that loads older messages
// as it is scrolled: 400, and 10,000 in the long form. That one scrolls more ways, and an empty
// page the same ways, and tells the times between frames.
func TestPageLong(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser: not with -short")
	}
	t.Parallel()
	messages, steps := 400, 20
	if long {
		messages, steps = 10_000, 5000
	}
	takeProcessor(t)
	chromium := browser(t)
	site := startLong(t, messages)
	p := opens(t, chromium, site.url("/"), "u00001")
	p.types("login-name", p.name)
	p.types("login-password", "pw")
	p.clicks(named("login-submit"))
	p.clicks(named("tab-contacts"))
	p.sees("the contacts", "document.querySelector(%q)", contact("u00010"))
	contacts := scroll{list: ".panel .list", row: named("contact"), toward: 1, most: steps,
		bound: 40}
	t.Logf("contacts by screens: %v", p.scrolls("contacts", contacts))
	p.sees("the end of the list", "(l => (l.scrollTop = l.scrollHeight, true))"+
		"(document.querySelector('.panel .list'))")
	p.sees("the last contact", "document.querySelector(%q)", contact("u05000"))
	if long {
		contacts.toward, contacts.pixels, contacts.most = -1, wheel, 500
		t.Logf("contacts by wheel: %v", p.scrolls("contacts", contacts))
	}
	p.clicks(named("tab-chats"))
	p.clicks(contact("u00002"))
	p.has(fmt.Sprint("message ", messages-1), "stored")
	// A step may meet older messages that arrive, which move the rows: up to 87 were made.
	talk := scroll{list: ".messages .scroller", row: named("message"), toward: -1, most: 5000,
		bound: 250}
	var loading scrolled
	until(t, "the beginning of the conversation", func() bool {
		// It ends at the top, also while older messages are on their way.
		loading.add(p.scrolls("messages", talk))
		begins, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](fmt.Sprintf(
			"!!document.querySelector(%q)", named("beginning"))))
		return err == nil && begins
	})
	t.Logf("messages that are loaded, by screens: %v", loading)
	p.has("message 0", "stored")
	if long {
		talk.toward = 1
		t.Logf("%d messages by screens: %v", messages, p.scrolls("messages", talk))
		talk.toward, talk.pixels, talk.most = -1, wheel, 500
		turned := p.scrolls("messages", talk)
		t.Logf("%d messages by wheel: %v", messages, turned)
		equal(t, "turns of the wheel that move the list", turned.Steps, talk.most)
		scrollsNothing(t, chromium)
	}
}

// wheel is what a turn of a mouse's wheel scrolls, in pixels.
const wheel = 120

// scrollsNothing scrolls an empty page, for comparison.
func scrollsNothing(t *testing.T, chromium context.Context) {
	t.Helper()
	p := opens(t, chromium, "about:blank", "nobody")
	p.sees("an empty list", `(document.body.innerHTML = "<div id=list style='height:500px;`+
		`overflow-y:scroll'><div><p style='height:400000px'></p></div></div>")`)
	nothing := scroll{list: "#list", row: "#list p", toward: 1, most: 800}
	t.Logf("an empty page by screens: %v", p.measures("nothing", nothing))
	nothing.toward, nothing.pixels, nothing.most = -1, wheel, 500
	t.Logf("an empty page by wheel: %v", p.measures("nothing", nothing))
}
