package msg

import (
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/session"
)

// The tests here run a message server without sockets, under virtual time: loops are
// goroutines, clients are carriers that keep what is written. Stand-ins answer as
// db_proxy and route_server. The end-to-end suite runs the real ones.

// world is a message server and what is around it.
type world struct {
	t       *testing.T
	h       *Server
	metrics *registry
	db      *dbStand
	route   *routeStand
	login   *linkStand
	// loginLink is the server's handler of the link loginS to login.
	loginLink session.LinkHandler
	loginS    *session.Link
	loops     []*testLoop
}

// inWorld runs f with a server of the given options, in a bubble of virtual time.
func inWorld(t *testing.T, opt Options, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, opt, &dbStand{ids: map[uint64]uint32{}}, nil)
		defer w.stop()
		f(w)
	})
}

// newWorld makes a server. Its messages to route_server are sent to carrier, or kept in
// w.route if that is nil.
func newWorld(t *testing.T, opt Options, db *dbStand, carrier session.MessageCarrier) *world {
	metrics := newRegistry()
	opt.Registerer = metrics
	h, err := New(filled(opt))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, h: h, metrics: metrics, db: db, route: &routeStand{}, login: &linkStand{}}
	h.Connect(w.db, w.db, w.route)
	if carrier == nil {
		carrier = &w.route.linkStand
	}
	w.route.s = session.NewLink(session.NextID(), "route", carrier)
	w.route.link = h.RouteLink()
	if err := w.route.link.Open(w.route.s); err != nil {
		t.Fatal(err)
	}
	w.route.link.Message(w.route.s, 0, hello())
	w.loginLink, w.loginS = h.LoginLink(), session.NewLink(session.NextID(), "login", w.login)
	if err := w.loginLink.Open(w.loginS); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.loops = append(w.loops, newTestLoop(h))
	}
	return w
}

// stop ends the loops.
func (w *world) stop() {
	for _, l := range w.loops {
		close(l.stop)
	}
}

// testLoop drives a session.Loop as the engine does.
type testLoop struct {
	*session.Loop
	do   chan func()
	stop chan struct{}
}

func newTestLoop(h *Server) *testLoop {
	l := &testLoop{do: make(chan func(), 1024), stop: make(chan struct{})}
	tick := time.NewTimer(0)
	tick.Stop()
	l.Loop = session.NewLoop(session.LoopOptions{Clients: h,
		Wake: func(*session.Loop, bool) { l.do <- l.Turn },
		Schedule: func(d time.Duration) {
			if tick.Stop(); d >= 0 {
				tick.Reset(d)
			}
		}})
	go func() {
		defer tick.Stop()
		for {
			select {
			case f := <-l.do:
				f()
			case <-tick.C:
				l.Tick()
			case <-l.stop:
				return
			}
		}
	}()
	return l
}

// filled returns opt with the defaults of the settings in place of missing values. A test turns a
// feature off with a negative value.
func filled(opt Options) Options {
	c := config.Default().Msg
	return opttest.Fill(opt, Options{
		MaxConns: c.MaxConnections, Policy: DevicePolicy(c.DevicePolicy), Ack: AckPolicy(c.Ack),
		Presence: Presence(c.Tells()), PresenceWindow: c.PresenceWindow, AckWait: c.AckWait,
		RedeliverAfter: c.RedeliverAfter, ResendWindow: c.ResendWindow, Hold: c.Hold,
		Rate: c.Rate, RateBurst: float64(c.RateBurst), PushText: c.PushText,
		LoginDeadline: c.LoginDeadline, PCTimeout: c.PCTimeout, MobileTimeout: c.MobileTimeout,
	})
}
