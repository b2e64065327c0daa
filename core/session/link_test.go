package session

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// linkEnd is a carrier of messages that records what it is given.
type linkEnd struct {
	sent   []pb.Message
	seqs   []uint16
	err    error
	closed []error
}

func (e *linkEnd) SendMessage(seq uint16, m pb.Message) error {
	e.sent, e.seqs = append(e.sent, m), append(e.seqs, seq)
	return e.err
}

func (e *linkEnd) Close(err error) { e.closed = append(e.closed, err) }

func TestLinkPassesMessagesToItsCarrier(t *testing.T) {
	down := im.Errorf(im.Closed, "link down")
	e := &linkEnd{}
	l := NewLink(NextID(), "dbproxy-1", e)
	if l.Remote() != "dbproxy-1" || !l.LoggedIn() || l.UserID() != 0 || l.TakesFrames() ||
		l.ID() == 0 {
		t.Errorf("remote %s, logged in %v, user %d, takes frames %v", l.Remote(), l.LoggedIn(),
			l.UserID(), l.TakesFrames())
	}
	m := &pb.IMHeartBeat{}
	if err := l.Send(3, m); err != nil {
		t.Error(err)
	}
	e.err = down
	if err := l.Send(4, m); err != down {
		t.Errorf("got %v", err)
	}
	if len(e.sent) != 2 || e.sent[0] != m || e.sent[1] != m || e.seqs[0] != 3 || e.seqs[1] != 4 {
		t.Errorf("sent %v with %v", e.sent, e.seqs)
	}
	l.SetTimeouts(time.Second, time.Second) // the carrier has timeouts of its own
	for range 5 {
		l.Malformed(false) // the carrier has a count of its own and closes itself
	}
	if len(e.closed) > 0 {
		t.Errorf("closed: %v", e.closed)
	}
	l.Close(ErrIdle)
	if len(e.closed) != 1 || e.closed[0] != ErrIdle {
		t.Errorf("closed: %v", e.closed)
	}
}

// linkRole is a handler of links that records its calls.
type linkRole struct {
	links  []*Link
	frames []pdu.Header
	closed []error
}

func (r *linkRole) Open(l *Link) error {
	r.links = append(r.links, l)
	return nil
}

func (r *linkRole) Frame(_ *Link, h pdu.Header, _ []byte)   { r.frames = append(r.frames, h) }
func (r *linkRole) Message(_ *Link, _ uint16, _ pb.Message) {}
func (r *linkRole) Close(_ *Link, err error)                { r.closed = append(r.closed, err) }

// linkWire is the carrier of a link that another server dialed.
type linkWire struct {
	l    *Loop
	c    *Conn
	out  []byte
	gone bool
}

func (w *linkWire) Write(p []byte) error { w.out = append(w.out, p...); return nil }
func (w *linkWire) Buffered() int        { return 0 }
func (w *linkWire) Close() {
	if !w.gone {
		w.gone = true
		w.l.Ended(w.c, nil)
	}
}

// dialed returns a loop with a link that another server dialed.
func dialed(t *testing.T) (*bench, *linkRole, *linkWire) {
	r := &linkRole{}
	b := newBench(t, nil, LoopOptions{Links: r})
	w := &linkWire{l: b.Loop}
	b.in(func() {
		w.c = b.Add(netip.MustParseAddrPort("192.0.2.9:8200"), w)
		if err := b.Open(w.c); err != nil {
			t.Error(err)
		}
	})
	if len(r.links) != 1 {
		t.Fatalf("%d links opened, want 1", len(r.links))
	}
	return b, r, w
}

// TestLinkLog: lines of a link inside the process have the level debug, those of a link over TCP
// the level info.
func TestLinkLog(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	NewLink(7, "msg", &linkEnd{}).Log(log, "server connected", "role", "route")
	if got := b.String(); !strings.Contains(got,
		"level=DEBUG msg=\"server connected\" conn=7 peer=msg role=route") {
		t.Errorf("inside the process: %s", got)
	}
	b.Reset()
	_, r, _ := dialed(t)
	r.links[0].Log(log, "server gone", "err", ErrIdle)
	if got := b.String(); !strings.Contains(got, "level=INFO msg=\"server gone\" conn=") ||
		!strings.Contains(got, "peer=192.0.2.9:8200 err=") {
		t.Errorf("over TCP: %s", got)
	}
}

func TestDialedLinkSendsThroughItsLoop(t *testing.T) {
	b, r, w := dialed(t)
	l := r.links[0]
	if l.Remote() != "192.0.2.9:8200" || l.ID() != w.c.ID() || !l.TakesFrames() {
		t.Errorf("remote %s, id %d, takes frames %v", l.Remote(), l.ID(), l.TakesFrames())
	}
	if err := l.Send(3, &pb.IMHeartBeat{}); err != nil {
		t.Error(err)
	}
	if err := l.SendFrames([]byte("frames")); err != nil {
		t.Error(err)
	}
	l.Close(ErrShutdown)
	if len(w.out) > 0 {
		t.Errorf("%q written before the turn of the loop", w.out)
	}
	b.turn()
	beat := pdu.AppendHeader(nil, pb.CmdHeartBeat, 3)
	if want := string(beat) + "frames"; string(w.out) != want {
		t.Errorf("written %q, want %q", w.out, want)
	}
	if len(r.closed) != 1 || r.closed[0] != ErrShutdown {
		t.Errorf("closed with %v, want %v", r.closed, ErrShutdown)
	}
}

func TestDialedLinkEndsAfterMalformedFramesAndSilence(t *testing.T) {
	b, r, w := dialed(t)
	b.in(func() { b.Deliver(w.c, pdu.Header{Seq: 7}, nil) })
	if len(r.frames) != 1 || r.frames[0].Seq != 7 {
		t.Errorf("frames %v", r.frames)
	}
	b.in(func() {
		for range pdu.MaxMalformed {
			r.links[0].Malformed(false)
		}
	})
	if len(r.closed) != 1 || r.closed[0] != ErrMalformed {
		t.Errorf("closed with %v, want %v", r.closed, ErrMalformed)
	}

	b, r, w = dialed(t)
	b.in(func() { r.links[0].SetTimeouts(30*time.Second, 5*time.Second) })
	b.clock.advance(5 * time.Second)
	b.Tick()
	if string(w.out) != string(heartbeat) {
		t.Errorf("after 5 s of silence: written %q, want a heartbeat", w.out)
	}
	b.clock.advance(25 * time.Second)
	b.Tick()
	if len(r.closed) != 1 || r.closed[0] != ErrIdle {
		t.Errorf("closed with %v, want %v", r.closed, ErrIdle)
	}
}
