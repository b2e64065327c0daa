package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/database"
)

// numbered returns a text that an Android client sent with a seq, and its repeat on a new
// connection.
func numbered(from, to uint32, body string) (first, repeat *im.Message) {
	first = text(from, to, body)
	first.SentAs = pb.SentAs(pb.ClientType_CLIENT_TYPE_ANDROID, 7)
	again := *first
	again.Created++
	again.ResentWithin = 60
	return first, &again
}

// stall is a point at which a batch waits for the test.
type stall struct{ reached, release chan struct{} }

func newStall() *stall { return &stall{make(chan struct{}), make(chan struct{})} }

// once waits at the first call.
func (p *stall) once() {
	select {
	case <-p.reached:
	default:
		close(p.reached)
		<-p.release
	}
}

// wantOnce checks that a message is stored once, and that both batches have its id.
func (e *env) wantOnce(t *testing.T, first, repeat *im.Message) {
	t.Helper()
	rows := 0
	for n := range schema.Tables {
		for _, table := range []string{"IMMessage", "IMGroupMessage"} {
			var some int
			query := fmt.Sprintf("SELECT COUNT(*) FROM %s_%d WHERE content=? "+
				"AND status=0", table, n)
			err := e.db.QueryRow(query, string(first.Data)).Scan(&some)
			if err != nil {
				t.Fatal(err)
			}
			rows += some
		}
	}
	if rows != 1 || first.Err != nil || repeat.Err != nil || first.ID != repeat.ID ||
		first.Duplicate == repeat.Duplicate {
		t.Errorf("%d rows; the first has id %d, duplicate %v, %v; its repeat id %d, %v, %v", rows,
			first.ID, first.Duplicate, first.Err, repeat.ID, repeat.Duplicate, repeat.Err)
	}
}

// stalls are the points at which a batch stalls.
var stalls = map[string]func(h *database.Hooks, p *stall){
	beforeCommit: func(h *database.Hooks, p *stall) {
		h.BeforeCommit = func(context.Context, *sql.Conn) { p.once() }
	},
	"before the transaction": func(h *database.Hooks, p *stall) { h.Drawn = p.once },
	"before the id":          func(h *database.Hooks, p *stall) { h.Undrawn = p.once },
}

const beforeCommit = "before the commit"

// overtake lets the batch of first stall in slow until other has stored its repeat. With
// locks, other waits for a batch that stalls before its commit. So that one proceeds when
// other is about to wait.
func (e *env) overtake(t *testing.T, slow, other *Store, at string, locks bool,
	first, repeat *im.Message) {
	t.Helper()
	p := newStall()
	stalls[at](&slow.db.Hooks, p)
	slowDone, proceeds, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	other.db.Hooks.Closing = nil
	if locks && at == beforeCommit {
		other.db.Hooks.Closing = sync.OnceFunc(func() { close(proceeds) })
	}
	go func() {
		defer close(slowDone)
		slow.AppendMessages(t.Context(), []*im.Message{first})
	}()
	<-p.reached
	go func() {
		defer close(done)
		other.AppendMessages(t.Context(), []*im.Message{repeat})
	}()
	select {
	case <-proceeds:
	case <-done:
	}
	close(p.release)
	<-slowDone
	<-done
	slow.db.Hooks.BeforeCommit, slow.db.Hooks.Drawn, slow.db.Hooks.Undrawn = nil, nil, nil
	e.wantOnce(t, first, repeat)
}

// TestRepeatOvertakesTheFirst: a message without a client_msg_id is stored once, although
// its batch stalls until another process has stored its repeat, or would have.
func TestRepeatOvertakesTheFirst(t *testing.T) {
	t.Parallel()
	for at := range stalls {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			slow, other := e.store(t), e.store(t)
			u := users(t, slow, 2)
			send(t, slow, text(u[0], u[1], "before"))
			first, repeat := numbered(u[0], u[1], "once")
			e.overtake(t, slow, other, at, true, first, repeat)
			send(t, other, text(u[1], u[0], "after"))
			if n := unreadOf(t, other, u[1], u[0]); n != 2 {
				t.Errorf("%d unread, want 2", n)
			}
			first, repeat = numbered(u[0], newGroup(t, slow, u...), "to a group")
			first.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
			repeat.Type = first.Type
			e.overtake(t, slow, other, at, true, first, repeat)
		})
	}
}

// TestClusterRepeatOvertakesTheFirst is TestRepeatOvertakesTheFirst for marks in a Redis
// Cluster.
func TestClusterRepeatOvertakesTheFirst(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.onCluster(t)
	slow, other := e.store(t), e.store(t)
	u := users(t, slow, 2)
	first, repeat := numbered(u[0], u[1], "once")
	e.overtake(t, slow, other, "before the id", true, first, repeat)
}

// TestGaleraRepeatOvertakesTheFirst is TestRepeatOvertakesTheFirst for processes on two
// nodes of a cluster. A node does not see the locks of the other.
func TestGaleraRepeatOvertakesTheFirst(t *testing.T) {
	t.Parallel()
	list := galeraEnv(t)
	slow, other := list[0].store(t), list[1].store(t)
	u := users(t, slow, 2)
	send(t, slow, text(u[0], u[1], "before"))
	for at := range stalls {
		list[1].sync(t)
		first, repeat := numbered(u[0], u[1], at)
		list[1].overtake(t, slow, other, at, false, first, repeat)
	}
}

// TestOpenIDsAreClosedOnce: a message that may be a repeat closes the ids that no message
// has, and each only once. Other messages close none.
func TestOpenIDsAreClosedOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s, other := e.store(t), e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 3)...)
	s.db.Redis.Unread.IncrBy(t.Context(), "msg_id_1", 5) // of batches that failed
	closed := func(want int) {
		t.Helper()
		var n int
		if err := e.db.QueryRow("SELECT COUNT(*) FROM IMMessage_1 WHERE status=1 AND " +
			"content=''").Scan(&n); err != nil || n != want {
			t.Errorf("%d ids are closed, %v, want %d", n, err, want)
		}
	}
	first, _ := numbered(u[0], u[1], "no repeat")
	send(t, s, first)
	closed(0)
	for i, st := range []*Store{s, other, s, s, other} {
		_, m := numbered(u[0], u[1], fmt.Sprint(i))
		m.SentAs += uint32(i)
		send(t, st, m)
		closed(5)
		if want := uint32(10 + i); m.ID != want || m.Duplicate {
			t.Errorf("message %d has id %d, duplicate %v, want %d", i, m.ID, m.Duplicate, want)
		}
	}
}
