// Package waits holds the acks of senders back until a device of the receiver acknowledges
// the message, for Options.Wait at most, and only while one of the devices is known to
// acknowledge deliveries.
//
// A route server that forwards acks is asked about devices on other message servers, see
// elsewhere.go. C++ route servers drop acks.
package waits

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/recent"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Kind says what an ack waits for.
type Kind uint8

// The kinds.
const (
	None      Kind = iota
	Here           // a device of the receiver here acknowledges
	Elsewhere      // the receiver may be connected elsewhere: ask, then wait
)

// Key names a message: a user's to another one.
type Key struct{ From, To, ID uint32 }

// Route answers questions about devices on other message servers.
type Route interface {
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Options sets up Waits. All fields but Registerer must be set.
type Options struct {
	// Wait is the longest time that an ack waits.
	Wait time.Duration
	// Loop returns what this package keeps for a loop, Loops returns all loops.
	Loop  func(*session.Loop) *Loop
	Loops func() []*session.Loop

	Online *session.Registry
	// Acks reports whether the client of a session acknowledges deliveries. Any goroutine.
	Acks func(*session.Client) bool
	// HasReceipts reports whether a route server is connected that forwards acks. Any
	// goroutine.
	HasReceipts func() bool
	// Ack sends the ack of a message that arrived at came from s. It is called on the loop
	// of s.
	Ack func(s *session.Client, seq uint16, key Key, came time.Time)
	// Overdue is called when the time of an ack is over, for each session s of the receiver
	// here. It is called on the loop of s.
	Overdue func(s *session.Client, key Key)

	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Waits is the acks that are held back.
type Waits struct {
	opt             Options
	route           Route
	here, elsewhere prometheus.Counter
	timeouts        prometheus.Counter
	remote          remoteCounts
}

// New returns Waits without an ack. Connect must be called before Hold.
func New(opt Options) *Waits {
	kinds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_msg_ack_waits_total",
		Help: "Acks to senders held back for the receiver's device, by its place: here, elsewhere.",
	}, []string{"where"})
	w := &Waits{opt: opt, here: kinds.WithLabelValues("here"),
		elsewhere: kinds.WithLabelValues("elsewhere"),
		timeouts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_msg_ack_timeouts_total",
			Help: "Acks sent because the recipient's devices took longer than ack_wait.",
		})}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(kinds, w.timeouts)
	}
	return w
}

// Connect sets the route server that is asked about devices elsewhere.
func (w *Waits) Connect(route Route) { w.route = route }

// Loop is the acks that a loop holds back for its own sessions. The zero value is ready.
// Loop only.
type Loop struct {
	open map[Key]wait
	due  []due // in order of time; may hold keys that are gone from open
	ask  []due // the same, for devices elsewhere: when to ask again
	// early has the messages that a device acknowledged while no ack waited.
	early recent.Map[Key, struct{}]
}

// A device may acknowledge a message before its sender's server knows that it is stored:
// another message server has found the message, and the answer of db_proxy is late. Such an
// acknowledgement is remembered for earlyAge. At most twice maxEarly are remembered for each
// loop.
const (
	earlyAge = 10 * time.Second
	maxEarly = 1024
)

// wait is an ack held back.
type wait struct {
	s      *session.Client
	seq    uint16
	remote bool      // a device elsewhere acknowledges
	came   time.Time // of the message
}

type due struct {
	key Key
	at  time.Time
}

// dueBy removes and returns the first one if its time has come.
func dueBy(list *[]due, now time.Time) (key Key, ok bool) {
	if len(*list) == 0 || now.Before((*list)[0].at) {
		return Key{}, false
	}
	key = (*list)[0].key
	if *list = (*list)[1:]; len(*list) == 0 {
		*list = nil // release what append has grown
	}
	return key, true
}

// For returns what an ack to a message for user has to wait for. Any goroutine.
func (w *Waits) For(user uint32) Kind {
	switch {
	case slices.ContainsFunc(w.opt.Online.Of(user), w.opt.Acks):
		return Here
	case w.opt.HasReceipts():
		return Elsewhere
	}
	return None
}

// Hold holds back the ack of a message that arrived at came from s. Loop only.
func (w *Waits) Hold(s *session.Client, seq uint16, key Key, came time.Time, kind Kind) {
	l := w.opt.Loop(s.Loop())
	if l.open == nil {
		l.open = map[Key]wait{}
	}
	if l.open[key].remote {
		w.remote.remove(key.To)
	}
	if _, ok := l.early.Get(key); ok {
		delete(l.open, key)
		w.opt.Ack(s, seq, key, came)
		return
	}
	l.open[key] = wait{s: s, seq: seq, came: came}
	l.due = append(l.due, due{key, s.Loop().Now().Add(w.opt.Wait)})
	if kind == Here {
		w.here.Inc()
		return
	}
	w.askForAcks(s.Loop(), key)
}

// release sends an ack that was held back, if it still is. Loop only.
func (w *Waits) release(l *session.Loop, key Key) {
	loop := w.opt.Loop(l)
	held, ok := loop.open[key]
	if !ok {
		return
	}
	delete(loop.open, key)
	if held.remote {
		w.remote.remove(key.To)
	}
	w.opt.Ack(held.s, held.seq, key, held.came)
}

// Release sends all acks that the loop holds back. Loop only.
func (w *Waits) Release(l *session.Loop) {
	loop := w.opt.Loop(l)
	for _, d := range loop.due {
		w.release(l, d.key)
	}
	loop.due, loop.ask = nil, nil
}

// Due returns when Tick has something to do, see session.LoopHandler. Loop only.
func (w *Waits) Due(l *session.Loop) int64 {
	loop, at := w.opt.Loop(l), int64(session.Never)
	for _, list := range [...][]due{loop.due, loop.ask} {
		if len(list) > 0 {
			at = min(at, l.At(list[0].at))
		}
	}
	return at
}

// Tick sends the acks that have waited long enough. Later acks do not wait for the devices
// here that did not acknowledge, until they do. Devices elsewhere are judged by their own
// server. Loop only.
func (w *Waits) Tick(l *session.Loop, now time.Time) {
	loop := w.opt.Loop(l)
	for key, ok := dueBy(&loop.due, now); ok; key, ok = dueBy(&loop.due, now) {
		if _, open := loop.open[key]; !open {
			continue
		}
		w.release(l, key)
		w.timeouts.Inc()
		for _, s := range w.opt.Online.Of(key.To) {
			s.Loop().Post(func() { w.opt.Overdue(s, key) })
		}
	}
	for key, ok := dueBy(&loop.ask, now); ok; key, ok = dueBy(&loop.ask, now) {
		if _, open := loop.open[key]; open {
			w.askForAcks(l, key)
		}
	}
}

// Acknowledged releases the ack of a message that a device of its receiver acknowledged, if
// its sender waits here. here is the loop that the caller runs on, nil if it runs on none.
func (w *Waits) Acknowledged(here *session.Loop, key Key) {
	sessions := w.opt.Online.Of(key.From)
	for i, s := range sessions {
		l := s.Loop()
		onIt := func(o *session.Client) bool { return o.Loop() == l }
		if slices.ContainsFunc(sessions[:i], onIt) {
			continue
		}
		if l == here {
			w.acknowledged(l, key)
			continue
		}
		l.Post(func() { w.acknowledged(l, key) })
	}
}

// acknowledged releases the ack of a message if it waits on the loop, and otherwise
// remembers that it need not wait. Loop only.
func (w *Waits) acknowledged(l *session.Loop, key Key) {
	loop := w.opt.Loop(l)
	if _, waits := loop.open[key]; waits {
		w.release(l, key)
		return
	}
	loop.early.Age, loop.early.Max = earlyAge, maxEarly
	loop.early.Put(key, struct{}{}, l.Now())
}
