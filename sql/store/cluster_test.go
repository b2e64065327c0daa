package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/rediscluster"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/redisconn"
)

// clusterEnv makes a database, and a Redis Cluster of three masters and a replica.
func clusterEnv(t *testing.T) (*env, *dbtest.RedisShards) {
	t.Helper()
	e := newEnv(t)
	c := dbtest.RedisShardsOf(t)
	e.o.Redis.Unread = Instance{Addrs: c.Addrs(), Cluster: true}
	e.o.Housekeeping = time.Hour // the tests recover the outbox themselves
	return e, c
}

// slotOf returns the slot of a key, and the number of the master that has it at first.
func slotOf(c *dbtest.RedisShards, key string) (slot string, master int) {
	slot = c.Masters[0].Do("CLUSTER KEYSLOT " + key)
	n, _ := strconv.Atoi(slot)
	return slot, n / 5462
}

// named creates n users whose names begin with a prefix.
func named(t *testing.T, s *Store, prefix string, n int) []uint32 {
	t.Helper()
	accounts := make([]im.Account, n)
	for i := range accounts {
		accounts[i].Name = fmt.Sprint(prefix, i)
	}
	ids, err := s.CreateUsers(t.Context(), accounts)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestCluster does to a Redis Cluster what operators and failures do. The cases share one
// cluster; the last one leaves it without a master.
func TestCluster(t *testing.T) {
	t.Parallel()
	e, c := clusterEnv(t)
	s := e.store(t)
	t.Run("open slot", func(t *testing.T) { openSlot(t, e, c, s) })
	t.Run("stuck key", func(t *testing.T) { stuckKey(t, e, c, s) })
	t.Run("unread beside a dead slot", func(t *testing.T) { unreadBesideDeadSlot(t, c, s) })
	t.Run("master dies", func(t *testing.T) { masterDies(t, e, c, s) })
}

// openSlot leaves slots open, as an interrupted reshard does. Unread counts must grow in
// them, whether their keys exist or not.
func openSlot(t *testing.T, e *env, c *dbtest.RedisShards, s *Store) {
	u := users(t, s, 3)
	g := newGroup(t, s, u...)
	send(t, s, text(u[0], u[1], "there"))
	for _, key := range []string{outbox.UnreadKey(u[1]), outbox.UnreadKey(u[2]), outbox.GroupKey(g),
		outbox.ReadKey(u[0], g), outbox.ReadKey(u[1], g), outbox.ReadKey(u[2], g)} {
		slot, from := slotOf(c, key)
		to := (from + 1) % 3
		dbtest.OpenSlot(c.Masters[from], c.Masters[to], slot)
		defer func() {
			c.Masters[from].Do("CLUSTER SETSLOT " + slot + " STABLE")
			c.Masters[to].Do("CLUSTER SETSLOT " + slot + " STABLE")
		}()
	}
	before := metric(t, s, "outbox_total", "deferred")
	start := time.Now()
	for n := range uint32(5) {
		send(t, s, text(u[0], u[1], "more"), text(u[1], u[2], "first"), groupText(u[0], g, "all"))
		if got := unreadOf(t, s, u[1], u[0]); got != n+2 {
			t.Errorf("%d unread in the slot of a key that exists, want %d", got, n+2)
		}
		if got := unreadOf(t, s, u[2], u[1]); got != n+1 {
			t.Errorf("%d unread in the slot of a key that is new, want %d", got, n+1)
		}
		wantGroupUnread(t, "open slots", s, g, u, 0, n+1, n+1)
	}
	t.Logf("%v for a batch", time.Since(start)/5)
	if n := metric(t, s, "outbox_total", "deferred") - before; n != 0 {
		t.Errorf("%v batches were not counted at once", n)
	}
	// Once more by another process, from the outbox.
	if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
		t.Error(err)
	}
	wantGroupUnread(t, "recovered", s, g, u, 0, 5, 5)
	if got := unreadOf(t, s, u[1], u[0]); got != 6 {
		t.Errorf("%d unread after the outbox was applied again, want 6", got)
	}
}

// stuckKey makes the slot of one user unavailable. The counts of others, in the same
// batch and in later rows of the outbox, must not wait for it.
func stuckKey(t *testing.T, e *env, c *dbtest.RedisShards, s *Store) {
	u := named(t, s, "stuck", 4)
	// so that the counters exist, and all relations are known
	send(t, s, text(u[0], u[1], "0"), text(u[0], u[2], "0"), text(u[0], u[3], "0"))
	slot, owner := slotOf(c, outbox.UnreadKey(u[1]))
	c.Masters[owner].Do("CLUSTER DELSLOTS " + slot)
	send(t, s, text(u[0], u[1], "1"), text(u[0], u[2], "1"))
	if got := unreadOf(t, s, u[2], u[0]); got != 2 {
		t.Errorf("%d unread beside a stuck key, want 2", got)
	}
	// The first answer is WRONGTYPE, which is skipped; the second must not be.
	odd := named(t, s, "odd", 1)[0]
	_, at := slotOf(c, outbox.UnreadKey(odd))
	c.Masters[at].Do("SET " + outbox.UnreadKey(odd) + " nonsense")
	missed := metric(t, s, "unread_left_out_total")
	if totals, err := s.UnreadTotals(t.Context(), []uint32{odd, u[1]}); err != nil ||
		len(totals) != 0 || metric(t, s, "unread_left_out_total") != missed+1 {
		t.Errorf("totals %v, %v although a slot is not served", totals, err)
	}
	other := e.store(t)
	other.db.Hooks.AfterCommit = func() error { return errCrash }
	for range 3 {
		send(t, other, text(u[0], u[1], "2"), text(u[0], u[2], "2"))
		send(t, other, text(u[0], u[3], "2"))
	}
	for range 2 {
		if _, err := s.outbox.Recover(t.Context(), 0); im.KindOf(err) != im.Unavailable ||
			err == nil {
			t.Errorf("recover with a stuck key: %v", err)
		}
		if got := unreadOf(t, s, u[3], u[0]); got != 4 {
			t.Errorf("%d unread in a row behind the stuck one, want 4", got)
		}
		if got := unreadOf(t, s, u[2], u[0]); got != 5 {
			t.Errorf("%d unread in the row of the stuck key, want 5", got)
		}
	}
	c.Masters[owner].Do("CLUSTER ADDSLOTS " + slot)
	if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
		t.Error(err)
	}
	for i, want := range []uint32{0, 5, 5, 4} {
		if got := unreadOf(t, s, u[i], u[0]); got != want {
			t.Errorf("user %d has %d unread at the end, want %d", i, got, want)
		}
	}
}

// unreadBesideDeadSlot takes a slot from the cluster. Only the counts in it may be missing in
// the answers, whichever count of a conversation it has.
func unreadBesideDeadSlot(t *testing.T, c *dbtest.RedisShards, s *Store) {
	u := named(t, s, "beside", 3)
	g, other := newGroup(t, s, u...), newGroup(t, s, u...)
	send(t, s, text(u[0], u[1], "1"), groupText(u[0], g, "1"), groupText(u[0], other, "1"))
	for _, dead := range []struct {
		key  string
		want []uint32 // peers with a count
	}{
		{outbox.GroupKey(g), []uint32{u[0], other}},
		{outbox.ReadKey(u[1], other), []uint32{u[0], g}},
		{outbox.UnreadKey(u[1]), []uint32{g, other}},
	} {
		slot, owner := slotOf(c, dead.key)
		c.Masters[owner].Do("CLUSTER DELSLOTS " + slot)
		missed := metric(t, s, "unread_left_out_total")
		counts, _, err := s.UnreadCounts(t.Context(), u[1], 1<<20)
		var got []uint32
		for _, n := range counts {
			got = append(got, n.Peer)
		}
		totals, err2 := s.UnreadTotals(t.Context(), u)
		if err != nil || err2 != nil || !slices.Equal(got, dead.want) || totals[u[1]] != 2 {
			t.Errorf("without the slot of %s: unread of %v, total %d, errors %v and %v", dead.key,
				got, totals[u[1]], err, err2)
		}
		if n := metric(t, s, "unread_left_out_total") - missed; n < 2 {
			t.Errorf("without the slot of %s: %v counts left out", dead.key, n)
		}
		c.Masters[owner].Do("CLUSTER ADDSLOTS " + slot)
	}
}

// masterDies kills a master. Conversations with a counter in its slots fail, and others do
// not, also in the same batch. After the replica was promoted all are served again.
func masterDies(t *testing.T, e *env, c *dbtest.RedisShards, s *Store) {
	u := named(t, s, "dies", 8)
	var live, dead []uint32 // receivers of u[0], by the slot of the conversation's counter
	for _, to := range u[1:] {
		send(t, s, text(u[0], to, "first"))
		relation, err := s.conversations.Of(t.Context(), s.db.Master, u[0], to)
		if err != nil {
			t.Fatal(err)
		}
		if _, at := slotOf(c, relation.Thread.Counter()); at == 2 {
			dead = append(dead, to)
		} else {
			live = append(live, to)
		}
	}
	if len(live) == 0 || len(dead) == 0 {
		t.Fatalf("%d live and %d dead conversations", len(live), len(dead))
	}
	c.Await("the replica to have everything", func() bool {
		return c.Masters[2].Do("WAIT 1 1000") == "1"
	})
	c.Masters[2].Stop()
	stored := storeBeside(t, s, u, dead)
	c.Promote()
	client := s.db.Redis.Unread.(*rediscluster.Client)
	start, before := time.Now(), client.Reloads()
	for _, to := range dead {
		for {
			m := text(u[0], to, "after")
			if s.AppendMessages(context.Background(), []*im.Message{m}); m.Err == nil {
				break
			}
			// The client asks for a slot map every 100 ms, and a load takes about 1 ms. The
			// bound allows for a machine that is a thousand times slower.
			if n := client.Reloads() - before; n > 100 {
				t.Fatalf("not served after %d slot maps since the promotion: %v", n, m.Err)
			}
			time.Sleep(time.Millisecond) // polls another process, which sends no event
		}
		stored[to]++
	}
	t.Logf("served %v and %d slot maps after the promotion", time.Since(start),
		client.Reloads()-before)
	if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
		t.Error(err)
	}
	for _, to := range u[1:] {
		if got := unreadOf(t, s, to, u[0]); got != stored[to] {
			t.Errorf("%d unread, want %d", got, stored[to])
		}
	}
}

// storeBeside stores batches while the counters of conversations with some users are
// unavailable. It returns the numbers of messages to each user, with the one from before.
func storeBeside(t *testing.T, s *Store, u, dead []uint32) map[uint32]uint32 {
	t.Helper()
	stored := map[uint32]uint32{}
	var slowest time.Duration
	for range 5 {
		var batch []*im.Message
		for _, to := range u[1:] {
			batch = append(batch, text(u[0], to, "during"))
			stored[to] = max(stored[to], 1)
		}
		start := time.Now()
		s.AppendMessages(context.Background(), batch)
		slowest = max(slowest, time.Since(start))
		for _, m := range batch {
			switch {
			case m.Err == nil:
				stored[m.To]++
			case !slices.Contains(dead, m.To):
				t.Errorf("a conversation of another slot: %v", m.Err)
			case im.KindOf(m.Err) != im.Unavailable:
				t.Errorf("a conversation of a dead slot: %v", m.Err)
			}
		}
	}
	t.Logf("a batch takes up to %v while a master is dead", slowest)
	if err := s.db.Ping(t.Context()); err != nil {
		t.Errorf("not ready although two masters serve: %v", err)
	}
	return stored
}

// answerCutter is a proxy in front of Redis. It passes a command that contains a text to
// the server, and disconnects the client when the server has answered.
type answerCutter struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	text     string // "": nothing is cut
	left     int    // how many answers to cut
	cut      int    // how many were cut
}

// newAnswerCutter starts an answerCutter in front of a node of a cluster, which announces
// the address of the proxy.
func newAnswerCutter(t *testing.T, r *dbtest.RedisServer) *answerCutter {
	t.Helper()
	p := &answerCutter{server: r.Addr()}
	p.listener = accept(t, p.serve)
	_, port, _ := strings.Cut(p.listener.Addr().String(), ":")
	r.Do("CONFIG SET cluster-announce-port " + port)
	return p
}

// arm makes the proxy cut the next n answers to commands that contain a text.
func (p *answerCutter) arm(text string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.left, p.cut = text, n, 0
}

// cuts returns the number of answers that were cut since arm.
func (p *answerCutter) cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// serve carries one connection.
func (p *answerCutter) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		client.Close()
		return
	}
	defer server.Close()
	defer client.Close()
	cut := false // guarded by p.mu
	go func() {
		defer client.Close()
		buf := make([]byte, 1<<16)
		for {
			n, err := server.Read(buf)
			p.mu.Lock()
			end := cut || err != nil
			p.mu.Unlock()
			if end {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.left > 0 && bytes.Contains(buf[:n], []byte(p.text)) {
			cut, p.left, p.cut = true, p.left-1, p.cut+1
		}
		p.mu.Unlock()
		if _, err := server.Write(buf[:n]); err == io.EOF {
			return
		}
	}
}

// TestClusterAnswerLost loses answers of a Redis Cluster. The client must not send a
// command again, and nothing may count twice.
func TestClusterAnswerLost(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.redis = dbtest.RedisCluster(t)
	p := newAnswerCutter(t, e.redis)
	e.o.Redis.Unread = Instance{Addrs: []string{p.listener.Addr().String()}, Cluster: true}
	client := redisconn.Connect(e.o.Redis.Unread, 1)
	defer client.Close()
	if err := client.Set(t.Context(), "counted", 0, 0).Err(); err != nil {
		t.Fatal(err)
	}
	p.arm("counted", 10)
	if err := client.Incr(t.Context(), "counted").Err(); err == nil {
		t.Error("no error although the answer was lost")
	}
	if n := e.redis.Do("GET counted"); n != "1" {
		t.Errorf("one INCR counted %s", n)
	}
	if _, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		return p.Incr(t.Context(), "counted").Err()
	}); err == nil {
		t.Error("no error although the answer of a pipeline was lost")
	}
	if n := e.redis.Do("GET counted"); n != "2" {
		t.Errorf("an INCR and one in a pipeline counted %s", n)
	}
	s := e.store(t)
	u := users(t, s, 3)
	send(t, s, text(u[0], u[1], "1"), text(u[0], u[2], "1"))
	for i, key := range []string{"msg_id_", outbox.UnreadKey(u[1])} {
		e.redis.Do("SCRIPT FLUSH") // as after a failover
		p.arm(key, 1)
		send(t, s, text(u[0], u[1], "more"), text(u[0], u[2], "more"))
		if p.cuts() != 1 {
			t.Fatalf("%d answers with %q were lost", p.cuts(), key)
		}
		if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
			t.Error(err)
		}
		for _, to := range u[1:] {
			if n := unreadOf(t, s, to, u[0]); n != uint32(i+2) {
				t.Errorf("%s: %d unread, want %d", key, n, i+2)
			}
		}
	}
	// A row of a process of an older version, which has applied the counts of one key.
	owner := uuid.New()
	e.exec(t, fmt.Sprintf("INSERT INTO IMUnreadOutbox (owner, seq, payload, created) "+
		"VALUES (x'%x', 7, x'%x', 1)", owner[:], outbox.AppendDues(nil,
		outbox.Dues{Counts: []outbox.Count{
			{User: u[1], Peer: u[0], N: 1}, {User: u[2], Peer: u[0], N: 1}}})))
	e.redis.Do(fmt.Sprintf("SET unread_mark_{%s}_%s 7", outbox.UnreadKey(u[1]), owner))
	if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if a, b := unreadOf(t, s, u[1], u[0]), unreadOf(t, s, u[2], u[0]); a != 3 || b != 4 {
		t.Errorf("%d and %d unread after a row of an older version, want 3 and 4", a, b)
	}
}
