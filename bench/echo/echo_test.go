package bench

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

// TestEcho compares the measured rate with the frames that the echo sent, for different
// connections, windows and loops.
func TestEcho(t *testing.T) {
	e, err := engine.StartEcho(engine.EchoOptions{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, o := range []EchoOptions{
		{Connections: 200, Senders: 50, Window: 4, Size: 100, Loops: 2},
		{Connections: 3, Window: 1, Loops: 4}, // a loop without a connection
	} {
		o.Addr, o.Warmup, o.Duration = e.Addr().String(), 20*time.Millisecond, 200*time.Millisecond
		rate, sent := 0.0, 0.0
		// On a busy machine no frame may return in 200 ms: then measure longer.
		for ; rate == 0 && o.Duration < time.Minute; o.Duration *= 2 {
			before := e.Frames()
			var err error
			if rate, err = Echo(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			sent = float64(e.Frames() - before)
		}
		if seconds := (o.Duration / 2).Seconds(); rate <= 0 || rate*seconds > sent {
			t.Errorf("%+v: %.0f/s, but the echo sent %.0f frames", o, rate, sent)
		}
	}
}

// TestEchoFails checks that the measurement fails when a connection ends or cannot be
// made, and when the context ends.
func TestEchoFails(t *testing.T) {
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
	o := EchoOptions{Addr: l.Addr().String(), Connections: 2, Duration: time.Hour}
	if _, err := Echo(t.Context(), o); err == nil ||
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
	if _, err := Echo(ctx, o); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("stopped: %v", err)
	}
	silent.Close()
	o.Addr = porttest.Reserve(t)
	if _, err := Echo(t.Context(), o); err == nil {
		t.Error("nobody listens, and that is no error")
	}
	o.Addr = "nonsense"
	if _, err := Echo(t.Context(), o); err == nil {
		t.Error("an address that is none is no error")
	}
}

func TestCeilings(t *testing.T) {
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
	if o := EchoOf(&s); o.Connections != 2*s.Pairs || o.Senders != s.Pairs ||
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
	c := Ceiling{Of: "acked", Rate: 1000}
	c.Bound(&Result{Seconds: 10, Totals: map[string]int64{"acked": 2500}})
	if c.Percent != 25 {
		t.Errorf("%v percent", c.Percent)
	}
	none := Ceiling{Of: "acked"}
	if none.Bound(&Result{Seconds: 10, Totals: map[string]int64{"acked": 1}}); none.Percent != 0 {
		t.Errorf("%v percent of nothing", none.Percent)
	}
}
