package rediswhereabouts

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/redisconn"
)

// looked looks at Redis and compares what it finds: "", "emptied", "replaced" or both.
func looked(t *testing.T, w *watch, what, finds string) {
	t.Helper()
	got, err := look(t, w)
	if err != nil || got != finds {
		t.Errorf("%s: found %q, want %q: %v", what, got, finds, err)
	}
}

// look looks at Redis.
func look(t *testing.T, w *watch) (string, error) {
	t.Helper()
	emptied, replaced, err := w.look(t.Context())
	var found []string
	if emptied {
		found = append(found, "emptied")
	}
	if replaced {
		found = append(found, "replaced")
	}
	return strings.Join(found, " "), err
}

// TestLossesOfServer empties and restarts a server, seen by two processes.
func TestLossesOfServer(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	a, b := newWatch(open(t, options(single(r)))), newWatch(open(t, options(single(r))))
	both := func(what, finds string) {
		t.Helper()
		for _, w := range []*watch{a, b} {
			looked(t, w, what, finds)
		}
	}
	both("the first look", "replaced")
	both("nothing", "")
	r.FlushAll()
	both("FLUSHALL", "emptied") // b finds the mark that a has set
	both("after it", "")
	r.Do("FLUSHDB")
	both("FLUSHDB", "emptied")
	r.Save()
	r.Stop()
	for _, w := range []*watch{a, b} {
		if got, err := look(t, w); err == nil || got != "" {
			t.Errorf("stopped: found %q, %v", got, err)
		}
	}
	r.Start() // with all that it had, and nobody knows that
	both("restart from a file", "replaced")
	both("after the restart", "")
	r.Stop()
	r.Start()
	both("restart without the last file's successor", "replaced")
	r.FlushAll()
	r.Stop()
	r.Start()
	both("emptied and restarted", "replaced")
	both("the end", "")
}

// TestLossesWithoutInfo has a user that may not read the id of the server. Then the mark alone
// tells.
func TestLossesWithoutInfo(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	r.Do("ACL SETUSER default -info")
	w := newWatch(open(t, options(single(r))))
	looked(t, w, "the first look", "replaced")
	looked(t, w, "nothing", "")
	r.FlushAll()
	looked(t, w, "FLUSHALL", "emptied")
}

// TestLossesOfSentinel lets a Sentinel make the replica the master, and back.
func TestLossesOfSentinel(t *testing.T) {
	t.Parallel()
	s := dbtest.RedisSentinelOf(t)
	i := redisconn.Instance{Addrs: []string{s.Sentinel.Addr()}, MasterName: dbtest.SentinelMaster}
	w := newWatch(open(t, options(i)))
	looked(t, w, "the first look", "replaced")
	looked(t, w, "nothing", "")
	s.Servers[1].Detach(s.Servers[0])
	s.Servers[0].Do("SET written late")
	s.Servers[0].Stop()
	s.Promote()
	s.Await("the replica that lacks the last writes", func() bool {
		found, err := look(t, w)
		return err == nil && found == "replaced"
	})
	looked(t, w, "after it", "")
}

// TestLossesOfCluster kills a master of a cluster, empties another one, and moves slots.
func TestLossesOfCluster(t *testing.T) {
	t.Parallel()
	c := dbtest.RedisShardsOf(t)
	w := newWatch(open(t, options(cluster(c))))
	looked(t, w, "the first look", "replaced")
	looked(t, w, "nothing", "")
	c.Masters[1].FlushAll()
	looked(t, w, "one of three is emptied", "emptied")
	looked(t, w, "nothing", "")

	c.Masters[1].Do("ACL SETUSER default -get")
	if found, err := look(t, w); err == nil || found != "" {
		t.Errorf("one look at one of three failed: found %q, %v", found, err)
	}
	c.Masters[1].Do("ACL SETUSER default +get")
	looked(t, w, "after it", "")

	// The slot with the mark of the first master moves to the second one.
	from, to := c.Masters[0], c.Masters[1]
	key, slot := "", 5462
	for i := 0; slot > 5461; i++ {
		key = markKey + strconv.Itoa(i)
		slot, _ = strconv.Atoi(from.Do("CLUSTER KEYSLOT " + key))
	}
	dbtest.OpenSlot(from, to, strconv.Itoa(slot))
	from.Do("MIGRATE " + strings.Replace(to.Addr(), ":", " ", 1) + " " + key + " 0 60000")
	looked(t, w, "the mark has moved, and its slot has not", "")
	for _, m := range []*dbtest.RedisServer{to, from} {
		m.Do(fmt.Sprintf("CLUSTER SETSLOT %d NODE %s", slot, to.ID()))
	}
	looked(t, w, "the slot has moved", "")
	from.FlushAll()
	looked(t, w, "the next mark is lost", "emptied")

	c.Await("the replica to have all", func() bool {
		return c.Replica.Do("DBSIZE") == c.Masters[2].Do("DBSIZE")
	})
	c.Masters[2].Stop()
	if found, err := look(t, w); err == nil || found != "" {
		t.Errorf("one is down: found %q, %v", found, err)
	}
	c.Promote()
	c.Await("the promoted replica", func() bool {
		found, _ := look(t, w)
		return found == "replaced"
	})
	c.Await("a look without an error", func() bool {
		found, err := look(t, w)
		if found != "" {
			t.Errorf("after the promotion: %q", found)
		}
		return err == nil
	})
}

// TestWatch tells the caller of losses, of a replaced server twice.
func TestWatch(t *testing.T) {
	t.Parallel()
	r := dbtest.Redis(t)
	s := open(t, options(single(r)))
	s.settle = 0 // the next look tells again
	calls := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, func() { calls <- struct{}{} })
	}()
	lost := func(what string) {
		t.Helper()
		select {
		case <-calls:
		case <-time.After(time.Minute):
			t.Fatalf("not told: %s, state %v", what, s.State())
		}
	}
	lost("the first look")
	if s.State() != nil {
		t.Error(s.State())
	}
	r.FlushAll()
	lost("FLUSHALL")
	r.Stop()
	r.Start()
	lost("restart")
	lost("restart, once connections to a former master have ended")
	cancel()
	<-done
	if n := testutil.ToFloat64(s.metrics.losses); n != 4 || len(calls) != 0 {
		t.Errorf("%v losses, %d more calls", n, len(calls))
	}
}
