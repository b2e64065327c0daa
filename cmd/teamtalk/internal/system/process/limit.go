package process

import (
	"log/slog"
	"math"
	"os"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is the share of a container's memory that Go's heap may take before the
// collector works harder. The rest is for what Go does not count: the page cache and the
// statements of the embedded store, whose allocator takes memory from the system itself,
// and the thread stacks.
const memoryShare = 0.8

// LimitMemory sets the soft memory limit of Go's runtime to 80 % of the limit of the
// process's cgroup, and logs it. Without it the heap grows to twice the live data before
// a collection, and the kernel kills a process whose live data is more than half of its
// container. It does nothing outside a container, without a limit, and when the operator
// has set GOMEMLIMIT. AUTOMEMLIMIT, the variable of the library, changes the share or
// turns it off.
func LimitMemory(log *slog.Logger) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set {
		return
	}
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare))
	switch {
	case err != nil: // no cgroup, or a system without them
		log.Debug("no memory limit of a container", "err", err)
	case limit < math.MaxInt64:
		log.Info("memory limit of the heap", "bytes", limit)
	}
}
