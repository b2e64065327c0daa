package mesh

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// dropped returns how much a mesh has dropped for a reason.
func (n *node) dropped(reason string) float64 {
	return testutil.ToFloat64(n.mesh.metrics.drops.WithLabelValues(reason))
}

// TestLookupsAreBounded: what has no room is dropped and counted, and texts are asked for again.
func TestLookupsAreBounded(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.login(2, windows)
		settle()
		const more = 100
		block := make(chan struct{})
		c.setHook(func(by string, call whereaboutstest.Operation, after bool) error {
			if by == "a" && call == whereaboutstest.Lookup && !after {
				<-block
			}
			return nil
		})
		a.send(text(1, 2, 1))
		settle() // the store is asked for it
		large := text(1, 2, 2)
		large.Data = make([]byte, 1<<20)
		for range maxLookupBytes>>20 + more {
			a.send(large)
		}
		settle()
		if n := a.dropped("lookups_full"); n < more || n > more+2 {
			t.Errorf("of what waits for the store %v were dropped, want %d", n, more)
		}
		a.all()
		c.setHook(nil)
		close(block)
		settle()
		if roles := take[*pb.IMRoleSet](a); len(roles) == 0 {
			t.Error("the message server was not asked to send again")
		}
	}, "a", "b")
}

// TestLoginsAreBounded: logins above the bound are refused at once.
func TestLoginsAreBounded(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a := nodes[0]
		c.setHook(func(string, whereaboutstest.Operation, bool) error { return errStoreAway })
		var refused atomic.Int32
		a.mesh.mu.Lock()
		for i := range uint32(maxComing + 10) {
			a.mesh.comes(i+1, windows, func(_ []whereabouts.Entry, err error) {
				if err != nil {
					refused.Add(1)
				}
			})
		}
		a.mesh.mu.Unlock()
		if refused.Load() != 10 {
			t.Errorf("%d logins were refused", refused.Load())
		}
		time.Sleep(5 * time.Second)
		settle()
		if refused.Load() != maxComing+10 {
			t.Errorf("%d logins were refused while the store fails", refused.Load())
		}
		c.setHook(nil)
		settle()
		settle()
		if n := len(a.mesh.users); n > 0 || len(c.store.Users()) > 0 {
			t.Errorf("%d users are remembered, %d in the store", n, len(c.store.Users()))
		}
	}, "a")
}
