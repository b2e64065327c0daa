//go:build !unix

package bench

import "os/exec"

// ownGroup does nothing on this system.
func ownGroup(*exec.Cmd) {}
