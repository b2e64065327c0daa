// Package services uses the parts of a deployment that carry no texts between clients: the
// file server, the HTTP API, the small file server and the pushes. It checks what each of
// them has promised.
//
// Each service makes one attempt after the other, until one is accepted, and records what was
// accepted. After the last round of a row it looks for all of it:
//
//   - files: a file that its sender was told to be uploaded is in the list of its receiver,
//     once, and is fetched whole.
//   - online: a file passed on directly arrives whole when its sender was told so.
//   - calls: what a call of the HTTP API has stored is in the tables, once, and was delivered.
//   - kicks: the connection of a user that KickUser was called for ends.
//   - pushes: a text to a user without a connection is stored once, whether or not a push
//     server runs, and is pushed once it does.
//   - uploads: a small file whose URL was answered can be fetched unchanged.
package services

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/loginserver"
	"teamtalk/core/client/tcp"
)

// World is what the services work on.
type World struct {
	// Server returns the address of a message server for a user, from 0. The other result is
	// the URL of a login server that names it; empty: there is none.
	Server   func(user int) (addr, login string)
	API      string // address of the HTTP API, for the app key AppKey
	AppKey   string
	Uploads  string                // address of the small file server
	Pushes   func(text string) int // how often a push of a text arrived
	User     func(n int) string    // the name of a user; they have the password Password
	First    int                   // the first of Users users for the services
	Password string
	Dir      string // an empty folder
	// Options are those of the services' clients, without the fields of one client.
	Options client.Options
	// Messages returns the texts of a conversation of two users in the tables, and Members
	// the members of a group.
	Messages func(ctx context.Context, a, b uint32) ([]Text, error)
	Members  func(ctx context.Context, group uint32) ([]uint32, error)
	Log      *slog.Logger
	// Patience is how long a server may take, on this machine, for what it has promised.
	Patience time.Duration
}

// Text is a text in the tables.
type Text struct {
	ID   uint32
	Text string
}

// Users is the number of users that the services need.
const Users = firstKicked + kickedUsers

// The users of each service, counted from World.First.
const (
	filesFrom = iota
	filesTo
	onlineFrom
	onlineTo
	callsFrom
	callsTo
	pushesFrom
	pushesTo
	firstKicked
)

// Counts are the result of a service.
type Counts struct {
	Service   string `json:"service"`
	Tried     int    `json:"tried"`    // things to do, each with one attempt or more
	Accepted  int    `json:"accepted"` // of them, those with an attempt that succeeded
	Failed    int    `json:"failed"`   // attempts that failed, and were repeated
	Delivered int    `json:"delivered"`

	Lost       int `json:"lost"`       // accepted, and not there, or not delivered
	Duplicated int `json:"duplicated"` // there, or delivered, twice
	Other      int `json:"other"`      // never accepted, changed, or not to be there
	// Longest is the longest time until something was accepted, and Beyond the part of it
	// after all servers were ready, in milliseconds.
	Longest int64 `json:"longest_ms"`
	Beyond  int64 `json:"beyond_ms"`

	Examples []string `json:"examples,omitempty"` // at most maxExamples
}

const maxExamples = 5

// Clean reports whether nothing is wrong.
func (c *Counts) Clean() bool { return c.Lost+c.Duplicated+c.Other == 0 }

// Add adds the counts of another deployment. Of times it keeps the longest.
func (c *Counts) Add(o *Counts) {
	for _, sum := range []struct {
		to *int
		n  int
	}{
		{&c.Tried, o.Tried}, {&c.Accepted, o.Accepted}, {&c.Failed, o.Failed},
		{&c.Delivered, o.Delivered}, {&c.Lost, o.Lost}, {&c.Duplicated, o.Duplicated},
		{&c.Other, o.Other},
	} {
		*sum.to += sum.n
	}
	c.Longest, c.Beyond = max(c.Longest, o.Longest), max(c.Beyond, o.Beyond)
	c.Examples = append(c.Examples, o.Examples...)
}

// job is one service.
type job interface {
	// begin begins a row.
	begin(row int)
	// try makes an attempt at the nth thing of the row.
	try(ctx context.Context, n, attempt int) error
	// settle waits until everything has arrived, at most until ctx ends.
	settle(ctx context.Context)
	// check adds what is wrong with what was accepted.
	check(ctx context.Context, c *Counts) error
	close()
}

// writer is a job that writes texts from one user to another.
type writer interface{ users() (a, b uint32) }

// worker runs a job.
type worker struct {
	job
	name  string
	every time.Duration // between two things
	// each says that each round of faults begins with a new success.
	each bool

	mu     sync.Mutex // guards the following fields
	counts Counts
	waits  *waits
}

// waits says since when all servers are ready; the zero time: they are not.
type waits struct {
	mu    sync.Mutex
	ready time.Time
}

// All are all services of a deployment.
type All struct {
	workers []*worker
	waits   waits
	row     int
	convs   map[[2]uint32]bool
}

// Open starts the clients of the services.
func Open(ctx context.Context, w World) (*All, error) {
	a := &All{convs: map[[2]uint32]bool{}}
	for _, s := range []struct {
		name  string
		every time.Duration
		each  bool
		open  func(context.Context, *World) (job, error)
	}{
		{"files", 300 * time.Millisecond, true, openFiles},
		{"online", 300 * time.Millisecond, true, openOnline},
		{"calls", 200 * time.Millisecond, true, openCalls},
		{"kicks", 1500 * time.Millisecond, false, openKicks},
		{"pushes", 200 * time.Millisecond, true, openPushes},
		{"uploads", 200 * time.Millisecond, true, openUploads},
	} {
		j, err := s.open(ctx, &w)
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		if t, writes := j.(writer); writes {
			x, y := t.users()
			a.convs[[2]uint32{min(x, y), max(x, y)}] = true
		}
		a.workers = append(a.workers, &worker{job: j, name: s.name, every: s.every, each: s.each,
			waits: &a.waits})
	}
	return a, nil
}

// Owns reports whether the conversation of two users is that of a service.
func (a *All) Owns(x, y uint32) bool { return a.convs[[2]uint32{min(x, y), max(x, y)}] }

// Close ends the clients.
func (a *All) Close() {
	for _, w := range a.workers {
		w.close()
	}
}

// Begin begins a row.
func (a *All) Begin() {
	a.row++
	for _, w := range a.workers {
		w.mu.Lock()
		w.counts = Counts{Service: w.name}
		w.mu.Unlock()
		w.begin(a.row)
	}
	a.Fault()
}

// Fault records that a fault begins.
func (a *All) Fault() { a.setReady(time.Time{}) }

// Ready records that all servers are ready again. A second call for one fault does nothing.
func (a *All) Ready(now time.Time) { a.setReady(now) }

func (a *All) setReady(now time.Time) {
	a.waits.mu.Lock()
	defer a.waits.mu.Unlock()
	if now.IsZero() || a.waits.ready.IsZero() {
		a.waits.ready = now
	}
}

// Run runs the services until quit is closed and each has finished what it does, or until
// ctx ends.
func (a *All) Run(ctx context.Context, quit <-chan struct{}) {
	var all sync.WaitGroup
	for _, w := range a.workers {
		all.Go(func() { w.run(ctx, quit) })
	}
	all.Wait()
}

// progresser is a job whose success is more than an accepted attempt.
type progresser interface{ progress() int }

// Successes returns the number of successes of each service that a round waits for, by its
// name.
func (a *All) Successes() map[string]int {
	n := map[string]int{}
	for _, w := range a.workers {
		switch p, more := w.job.(progresser); {
		case !w.each:
		case more:
			n[w.name] = p.progress()
		default:
			w.mu.Lock()
			n[w.name] = w.counts.Accepted
			w.mu.Unlock()
		}
	}
	return n
}

// Check waits until everything has arrived, at most until ctx ends, and returns the result
// of the row.
func (a *All) Check(ctx context.Context) ([]Counts, error) {
	var list []Counts
	for _, w := range a.workers {
		w.settle(ctx)
		w.mu.Lock()
		c := w.counts
		w.mu.Unlock()
		if err := w.check(context.WithoutCancel(ctx), &c); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		list = append(list, c)
	}
	return list, nil
}

// pacer is a job whose receiver may fall behind. Nothing new is begun meanwhile: on a loaded
// machine, what waits at the end of a row would take longer than the check does.
type pacer interface{ behind() bool }

// run does one thing after the other.
func (w *worker) run(ctx context.Context, quit <-chan struct{}) {
	t := time.NewTicker(w.every)
	defer t.Stop()
	p, paced := w.job.(pacer)
	for n := 1; ; {
		select {
		case <-quit:
			return
		case <-ctx.Done():
			return
		case <-t.C:
			if !paced || !p.behind() {
				w.do(ctx, n)
				n++
			}
		}
	}
}

// pauseAfter is the pause after an attempt that failed.
const pauseAfter = 100 * time.Millisecond

// do makes attempts at one thing until one is accepted.
func (w *worker) do(ctx context.Context, n int) {
	begin := time.Now()
	w.count(func(c *Counts) { c.Tried++ })
	for attempt := 1; ; attempt++ {
		err := w.try(ctx, n, attempt)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			w.count(func(c *Counts) {
				c.Other++
				c.example("%d was never accepted: %v", n, err)
			})
			return
		}
		w.count(func(c *Counts) { c.Failed++ })
		sleep(ctx, pauseAfter)
	}
	now := time.Now()
	beyond := w.waits.beyond(begin, now)
	w.count(func(c *Counts) {
		c.Accepted++
		c.Longest = max(c.Longest, now.Sub(begin).Milliseconds())
		c.Beyond = max(c.Beyond, beyond.Milliseconds())
	})
}

// beyond returns the part of a time after all servers were ready.
func (w *waits) beyond(begin, end time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready.IsZero() {
		return 0
	}
	if begin.Before(w.ready) {
		begin = w.ready
	}
	return end.Sub(begin)
}

// count changes the counts.
func (w *worker) count(f func(*Counts)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.counts)
}

// example records the description of a problem.
func (c *Counts) example(format string, args ...any) {
	if len(c.Examples) < maxExamples {
		c.Examples = append(c.Examples, c.Service+": "+fmt.Sprintf(format, args...))
	}
}

// sleep waits.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// pollPause is the pause between two looks at a condition. No event reports it.
const pollPause = 10 * time.Millisecond

// until waits for a condition, at most until ctx ends.
func until(ctx context.Context, met func() bool) bool {
	for !met() {
		if ctx.Err() != nil {
			return false
		}
		sleep(ctx, pollPause)
	}
	return true
}

// open opens a client of a user.
func (w *World) open(ctx context.Context, user int, event func(client.Event)) (*client.Client,
	error) {
	o := w.Options
	o.Credentials = tcp.Credentials{User: w.User(w.First + user), Password: w.Password}
	o.MsgServer, o.Server = w.Server(user)
	if o.Server != "" {
		o.MsgServer = ""
	}
	o.OnEvent, o.Logger = event, w.Log
	return client.Open(ctx, o)
}

// login logs a user in on a connection of its own.
func (w *World) login(ctx context.Context, user int, o tcp.Options, c tcp.Credentials) (*tcp.Conn,
	error) {
	addr, login := w.Server(user)
	if login != "" {
		list, err := loginserver.Discover(ctx, http.DefaultClient, login)
		if err != nil {
			return nil, err
		}
		addr = list[0]
	}
	conn, err := tcp.Dial(ctx, addr, o)
	if err != nil {
		return nil, err
	}
	c.User, c.Password = w.User(w.First+user), w.Password
	if _, err := conn.Login(ctx, c); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// textsOf returns the texts between two users in the tables that begin with a prefix, with
// their ids.
func (w *World) textsOf(ctx context.Context, a, b uint32, prefix string) (map[string][]uint32,
	error) {
	list, err := w.Messages(ctx, a, b)
	if err != nil {
		return nil, err
	}
	ids := map[string][]uint32{}
	for _, m := range list {
		if len(m.Text) >= len(prefix) && m.Text[:len(prefix)] == prefix {
			ids[m.Text] = append(ids[m.Text], m.ID)
		}
	}
	return ids, nil
}
