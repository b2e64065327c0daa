package echo

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"teamtalk/bench/scenario"
	"teamtalk/core/engine"
	"teamtalk/core/porttest"
)

// TestMeasure compares the measured rate with the frames that the echo sent, for different
// connections, windows and loops.
func TestMeasure(t *testing.T) {
	e, err := engine.StartEcho(engine.EchoOptions{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, o := range []Options{
		{Connections: 200, Senders: 50, Window: 4, Size: 100, Loops: 2},
		{Connections: 3, Window: 1, Loops: 4}, // a loop without a connection
	} {
		o.Addr, o.Warmup, o.Duration = e.Addr().String(), 20*time.Millisecond, 200*time.Millisecond
		rate, sent := 0.0, 0.0
		// On a busy machine no frame may return in 200 ms: then measure longer.
		for ; rate == 0 && o.Duration < time.Minute; o.Duration *= 2 {
			before := e.Frames()
			r, err := Measure(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			rate = r.Rate
			sent = float64(e.Frames() - before)
		}
		if seconds := (o.Duration / 2).Seconds(); rate <= 0 || rate*seconds > sent {
			t.Errorf("%+v: %.0f/s, but the echo sent %.0f frames", o, rate, sent)
		}
	}
}

// TestOnSchedule sends frames at a rate, in turn on all senders and loops: no more than
// were due come back, and each has a time.
func TestOnSchedule(t *testing.T) {
	e, err := engine.StartEcho(engine.EchoOptions{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	begin, calls := time.Now(), ""
	r, err := Measure(t.Context(), Options{Addr: e.Addr().String(), Connections: 30, Senders: 7,
		Loops: 2, Rate: 400, Warmup: 20 * time.Millisecond, Duration: 300 * time.Millisecond,
		Begin: func() { calls += "begin " }, End: func() { calls += "end" }})
	if err != nil {
		t.Fatal(err)
	}
	most := int64(400*time.Since(begin).Seconds()) + 2 // each loop sends its first at once
	if r.Rate <= 0 || r.Frames < 1 || r.Frames > most || r.P50 <= 0 || r.P99 < r.P50 {
		t.Errorf("%+v, want at most %d frames", r, most)
	}
	if calls != "begin end" {
		t.Errorf("calls: %s", calls)
	}
}

// TestMeasureFails checks that the measurement fails when a connection ends or cannot be
// made, and when the context ends.
func TestMeasureFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Read(make([]byte, 10))
				c.Close()
			}()
		}
	}()
	o := Options{Addr: l.Addr().String(), Connections: 2, Duration: time.Hour}
	if _, err := Measure(t.Context(), o); err == nil ||
		!strings.Contains(err.Error(), "a connection to the echo") {
		t.Errorf("connections that end: %v", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Addr = silent.Addr().String()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrUnexpectedEOF)
	if _, err := Measure(ctx, o); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("stopped: %v", err)
	}
	silent.Close()
	o.Addr = porttest.Reserve(t)
	if _, err := Measure(t.Context(), o); err == nil {
		t.Error("nobody listens, and that is no error")
	}
	o.Addr = "nonsense"
	if _, err := Measure(t.Context(), o); err == nil {
		t.Error("an address that is none is no error")
	}
}

func TestOf(t *testing.T) {
	for kind, want := range map[string][2]string{scenario.KindSingle: {"acked", "acked"},
		scenario.KindGroup: {"delivered", "acked"},
		scenario.KindIdle:  {}, scenario.KindConnect: {}, scenario.KindFile: {},
		scenario.KindMixed: {"acked", "acked"}, scenario.KindSoak: {"acked", "acked"}} {
		s := scenario.New(kind)
		echo, stored, ok := s.Ceilings()
		if got := [2]string{echo, stored}; got != want || ok != (want[0] != "") {
			t.Errorf("%s: %v, %v", kind, got, ok)
		}
	}
	s := scenario.New(scenario.KindSingle)
	if o := Of(&s); o.Connections != 2*s.Pairs || o.Senders != s.Pairs ||
		o.Window != s.Window || o.Size != int(s.Size) {
		t.Errorf("%+v", o)
	}
	soak := scenario.New(scenario.KindSoak)
	if soak.Of = scenario.KindFile; soak.ToGroups() {
		t.Error("files are texts to groups")
	}
	if _, _, ok := soak.Ceilings(); ok {
		t.Error("files for hours have ceilings")
	}
	if soak.Of = scenario.KindGroup; !soak.ToGroups() {
		t.Error("texts to groups are none, for hours")
	}
}
