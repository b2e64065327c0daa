//go:build !unix

package bench

// cpuTime returns 0, because the time is unknown on this system.
import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
