//go:build unix

package bench

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps the interrupt of a terminal from an agent: who started it ends it, and wants its results before.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
