package store

import (
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
)

// TestSentinel lets a Sentinel make the replica the master, and back. One of the two addresses
// leads to no Sentinel. The store follows, counts each message once, and draws no id twice.
func TestSentinel(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	r := dbtest.RedisSentinelOf(t)
	e.o.Redis.Unread = Instance{Addrs: []string{"127.0.0.1:1", r.Sentinel.Addr()},
		MasterName: dbtest.SentinelMaster}
	e.o.Housekeeping = time.Hour // the test recovers the outbox itself
	s := e.store(t)
	u := users(t, s, 2)
	stored := uint32(0)
	for n := range 3 {
		r.Await("the store to follow", func() bool {
			m := text(u[0], u[1], "more")
			s.AppendMessages(t.Context(), []*im.Message{m})
			if m.Err != nil {
				return false // a connection led to the former master
			}
			stored++
			_, err := s.outbox.Recover(t.Context(), 0)
			return err == nil && s.db.Redis.Writable(t.Context()) == nil
		})
		// A connection to the former master may answer until the Sentinel's message arrives.
		r.Await("the counts", func() bool { return unreadOf(t, s, u[1], u[0]) == stored })
		if n < 2 {
			r.Failover()
		}
	}
	r.Servers[0].Stop()
	if err := s.db.Redis.Writable(t.Context()); err == nil {
		t.Error("the store writes to Redis without a master")
	}
}
