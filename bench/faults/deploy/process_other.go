//go:build !linux

package deploy

import (
	"os"
	"os/exec"
)

func startBound(*exec.Cmd) error        { return ErrUnavailable }
func signalTerminate(*os.Process) error { return ErrUnavailable }
func signalStop(*os.Process) error      { return ErrUnavailable }
func signalContinue(*os.Process) error  { return ErrUnavailable }

// ports holds no ports.
type ports struct{}

func (ports) reserve(int) ([]string, error) { return nil, ErrUnavailable }
func (ports) release()                      {}
