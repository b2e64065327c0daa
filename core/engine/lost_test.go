package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	gneterrors "github.com/panjf2000/gnet/v2/pkg/errors"
)

// onLoop runs f on a loop of s that has a connection. gnet ends the loop if f returns
// ErrEngineShutdown, as if the system refused to wait for its sockets.
func onLoop(t *testing.T, s *Server, f func() error) {
	t.Helper()
	err := s.all()[0].el.Execute(context.Background(),
		gnet.RunnableFunc(func(context.Context) error { return f() }))
	if err != nil {
		t.Fatal(err)
	}
}

// TestLoopThatEnds ends one of two loops: the engine ends with an error, and refuses connections.
func TestLoopThatEnds(t *testing.T) {
	s, err := Start(Options{Addr: "127.0.0.1:0", Clients: newRole(), Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	c.echo(hello)
	onLoop(t, s, func() error { return gneterrors.ErrEngineShutdown })
	c.wantEnd()
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the engine remains without its loop")
	}
	if err := s.Err(); !errors.Is(err, errLoop) {
		t.Errorf("the engine ended with %v", err)
	}
}

// TestCloseIsNoLostLoop: the loops that Close ends are no failure.
func TestCloseIsNoLostLoop(t *testing.T) {
	s := start(t, Options{Clients: newRole(), Loops: 2})
	dial(t, s).echo(hello)
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("the engine ended with %v", err)
	}
}

// panicking makes this test binary panic on a loop, outside of every handler.
const panicking = "TEAMTALK_TEST_PANIC_ON_LOOP"

// TestPanicOnLoop: such a panic ends the process, so that a supervisor starts it again. gnet must
// not keep it for itself.
func TestPanicOnLoop(t *testing.T) {
	if os.Getenv(panicking) != "" {
		s := start(t, Options{Clients: newRole(), Loops: 1})
		dial(t, s).echo(hello)
		onLoop(t, s, func() error { panic("of the test") })
		<-s.Done()
		return
	}
	self := exec.Command(os.Args[0], "-test.run=^TestPanicOnLoop$")
	self.Env = append(os.Environ(), panicking+"=1")
	out, err := self.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "panic: of the test") {
		t.Errorf("the process ended with %v: %s", err, bytes.TrimSpace(out))
	}
}
