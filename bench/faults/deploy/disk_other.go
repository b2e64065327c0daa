//go:build !linux

package deploy

import (
	"context"
	"os/exec"
	"time"
)

// RunWithDisks returns ErrUnavailable.
func RunWithDisks(context.Context, *exec.Cmd) error { return ErrUnavailable }

func mountDisk(string, int) error { return ErrUnavailable }
func unmountDisk(string)          {}

// Fill returns ErrUnavailable.
func (s *System) Fill(context.Context, time.Duration) error { return ErrUnavailable }
