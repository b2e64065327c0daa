package engine

import (
	"github.com/panjf2000/gnet/v2/pkg/pool/goroutine"

	"teamtalk/core/carrier"
)

// gnet gives connections to its loops on a pool of goroutines that all listeners of the process
// share, in a variable of its own. An open pool wakes the process twice a second, so it is open
// only while connections arrive.

// enrollers is gnet's pool.
var enrollers = newEnrollers()

func newEnrollers() *carrier.Carrier {
	goroutine.DefaultWorkerPool.Release()
	return carrier.Of(func() *goroutine.Pool {
		goroutine.DefaultWorkerPool = goroutine.Default()
		return goroutine.DefaultWorkerPool
	})
}
