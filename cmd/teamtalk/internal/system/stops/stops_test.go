package stops

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestStopsRunByPhase pushes stops in an order that differs from their phases.
func TestStopsRunByPhase(t *testing.T) {
	var s Stack
	var ran []string
	push := func(p Phase, name string, err error) {
		s.Push(p, name, func(context.Context) error {
			ran = append(ran, name)
			return err
		})
	}
	broken := errors.New("broken")
	push(CloseStore, "store", nil)
	push(DrainMessages, "first server", broken)
	push(RefuseConnections, "port", nil)
	push(CloseAdmin, "admin", nil)
	push(DrainMessages, "second server", nil)
	err := s.Run(t.Context())
	if want := []string{"port", "second server", "first server", "store",
		"admin"}; !slices.Equal(ran, want) {
		t.Errorf("stopped %q, want %q", ran, want)
	}
	if !errors.Is(err, broken) || err.Error() != "stop first server: broken" {
		t.Errorf("error %v", err)
	}
	ran = nil
	if err := s.Run(t.Context()); err != nil || ran != nil {
		t.Errorf("the second stop ran %q, %v", ran, err)
	}
}

// TestStopsPassTheContext: each stop gets the context of Run, also after it has ended.
func TestStopsPassTheContext(t *testing.T) {
	var s Stack
	for _, p := range []Phase{RefuseConnections, CloseAdmin} {
		s.Push(p, "part", func(ctx context.Context) error { return ctx.Err() })
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Run(ctx)
	if err == nil || strings.Count(err.Error(), context.Canceled.Error()) != 2 {
		t.Errorf("error %v, want one for each part", err)
	}
}
