package system

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestStopsRunByPhase pushes stops in an order that differs from their phases.
func TestStopsRunByPhase(t *testing.T) {
	var s stops
	var ran []string
	push := func(p phase, name string, err error) {
		s.push(p, name, func(context.Context) error {
			ran = append(ran, name)
			return err
		})
	}
	broken := errors.New("broken")
	push(closeStore, "store", nil)
	push(drainMessages, "first server", broken)
	push(refuseConnections, "port", nil)
	push(closeAdmin, "admin", nil)
	push(drainMessages, "second server", nil)
	err := s.run(t.Context())
	if want := []string{"port", "second server", "first server", "store",
		"admin"}; !slices.Equal(ran, want) {
		t.Errorf("stopped %q, want %q", ran, want)
	}
	if !errors.Is(err, broken) || err.Error() != "stop first server: broken" {
		t.Errorf("error %v", err)
	}
	ran = nil
	if err := s.run(t.Context()); err != nil || ran != nil {
		t.Errorf("the second stop ran %q, %v", ran, err)
	}
}

// TestStopsPassTheContext: each stop gets the context of run, also after it has ended.
func TestStopsPassTheContext(t *testing.T) {
	var s stops
	for _, p := range []phase{refuseConnections, closeAdmin} {
		s.push(p, "part", func(ctx context.Context) error { return ctx.Err() })
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.run(ctx)
	if err == nil || strings.Count(err.Error(), context.Canceled.Error()) != 2 {
		t.Errorf("error %v, want one for each part", err)
	}
}
