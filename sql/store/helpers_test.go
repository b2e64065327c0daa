package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
)

// text returns a text message.
func text(from, to uint32, body string) *im.Message {
	return &im.Message{From: from, To: to, Created: uint32(time.Now().Unix()),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(body)}
}

// texts returns n messages.
func texts(from, to uint32, n int) []*im.Message {
	list := make([]*im.Message, n)
	for i := range list {
		list[i] = text(from, to, fmt.Sprintf("%d>%d %d", from, to, i))
	}
	return list
}

// users creates n users.
func users(t testing.TB, s *Store, n int) []uint32 {
	t.Helper()
	accounts := make([]im.Account, n)
	for i := range accounts {
		accounts[i].Name = fmt.Sprintf("user%d", i)
	}
	ids, err := s.CreateUsers(context.Background(), accounts)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// send stores messages that must all be stored.
func send(t testing.TB, s *Store, batch ...*im.Message) {
	t.Helper()
	s.AppendMessages(context.Background(), batch)
	for i, m := range batch {
		if m.Err != nil {
			t.Fatalf("message %d: %v", i, m.Err)
		}
	}
}

// wantIDs checks the ids of the stored messages of a conversation, in order.
func wantIDs(t testing.TB, s *Store, a, b uint32, from, to uint32) {
	t.Helper()
	list, err := s.History(context.Background(), a, b, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := to
	for _, m := range list {
		if m.ID != want {
			t.Fatalf("message id %d where %d is expected", m.ID, want)
		}
		want--
	}
	if want != from-1 {
		t.Fatalf("ids end at %d, want %d", want+1, from)
	}
}

// unreadOf returns the unread count of user for peer.
func unreadOf(t testing.TB, s *Store, user, peer uint32) uint32 {
	t.Helper()
	list, _, err := s.UnreadCounts(context.Background(), user, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list {
		if u.Peer == peer {
			return u.Count
		}
	}
	return 0
}

// outboxRows returns the number of rows in the outbox.
func (e *env) outboxRows(t testing.TB) (n int) {
	t.Helper()
	if err := e.db.QueryRow("SELECT COUNT(*) FROM IMUnreadOutbox").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// onCluster makes the store keep the unread counts in a Redis Cluster.
func (e *env) onCluster(t testing.TB) {
	e.redis = dbtest.RedisCluster(t)
	e.o.Redis.Unread = Instance{Addrs: []string{e.redis.Addr()}, Cluster: true}
}

// metric returns the value of a metric of a store, by its name without teamtalk_store_ and the
// value of its label. A metric without that label value is 0.
func metric(t testing.TB, s *Store, name string, label ...string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(s.db.Metrics)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "teamtalk_store_"+name && (len(label) == 0 ||
				m.GetLabel()[0].GetValue() == label[0]) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	if len(label) == 0 {
		t.Fatalf("no metric %s", name)
	}
	return 0
}
