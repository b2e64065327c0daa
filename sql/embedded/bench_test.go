package embedded

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var benchDir = flag.String("benchdir", "", "directory on the disk to measure; default the one "+
	"for temporary files")

// people creates n users.
func people(t testing.TB, s *Store, n int) []uint32 {
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

// BenchmarkAppend stores messages of 88 bytes in 200 conversations, each batch spread
// over them, without and with client_msg_ids. The result is rows/s.
func BenchmarkAppend(b *testing.B) {
	for _, named := range []bool{false, true} {
		for _, size := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("named=%v/batch=%d", named, size), func(b *testing.B) {
				benchmarkAppend(b, size, named)
			})
		}
	}
}

func benchmarkAppend(b *testing.B, size int, named bool) {
	s := benchStore(b, fmt.Sprintf("%v-%d", named, size))
	users := people(b, s, 400)
	benchmarkBatches(b, s, size, func(n int) *im.Message {
		pair := n % 200
		m := benchMessage(n, users[2*pair], users[2*pair+1])
		if n%3 == 0 {
			m.From, m.To = m.To, m.From
		}
		if named {
			m.ClientID = fmt.Appendf(nil, "%036d", n*7919)
		}
		return m
	})
}

// BenchmarkAppendYoung stores the same messages as from connections in their first minute, so that
// each is looked for among those before.
func BenchmarkAppendYoung(b *testing.B) {
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := benchStore(b, fmt.Sprintf("young-%d", size))
			users := people(b, s, 20)
			benchmarkBatches(b, s, size, func(n int) *im.Message {
				pair := n % 10
				m := benchMessage(n, users[2*pair], users[2*pair+1])
				m.SentAs, m.ResentWithin = uint32(1+n), 60
				return m
			})
		})
	}
}

// BenchmarkAppendGroup stores the same messages in 200 groups, and in one group. The
// members send in turn, so that a batch has the largest number of senders. The number of
// members should make no difference.
func BenchmarkAppendGroup(b *testing.B) {
	for _, groups := range []int{200, 1} {
		for _, members := range []int{2, 500} {
			for _, size := range []int{1, 16, 64, 256} {
				b.Run(fmt.Sprintf("groups=%d/members=%d/batch=%d", groups, members, size),
					func(b *testing.B) {
						benchmarkAppendGroup(b, groups, members, size)
					})
			}
		}
	}
}

func benchmarkAppendGroup(b *testing.B, groups, members, size int) {
	s := benchStore(b, fmt.Sprintf("group%d-%d-%d", groups, members, size))
	users := people(b, s, 500)
	ids := make([]uint32, groups)
	for i := range ids {
		g, err := s.CreateGroup(context.Background(), im.Group{Name: "g",
			Type: pb.GroupType_GROUP_TYPE_TMP, Members: users[:members]}, 0)
		if err != nil {
			b.Fatal(err)
		}
		ids[i] = g.ID
	}
	benchmarkBatches(b, s, size, func(n int) *im.Message {
		m := benchMessage(n, users[n/groups%members], ids[n%groups])
		m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
		return m
	})
}

var benchData = bytes.Repeat([]byte("x"), 88)

// benchMessage returns the n-th message of a benchmark. 20,000 messages have the same
// time.
func benchMessage(n int, from, to uint32) *im.Message {
	return &im.Message{From: from, To: to, Created: uint32(1_700_000_000 + n/20_000),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: benchData}
}

// benchStore opens a store that is closed with the benchmark.
func benchStore(b *testing.B, name string) *Store {
	b.Helper()
	dir := *benchDir
	if dir == "" {
		dir = b.TempDir()
	}
	s := open(b, Options{Dir: filepath.Join(dir, fmt.Sprintf("bench%s-%d", name, b.N))})
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// benchmarkBatches stores batches of size messages, which next makes.
func benchmarkBatches(b *testing.B, s *Store, size int, next func(n int) *im.Message) {
	b.Helper()
	batch := make([]*im.Message, size)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			batch[i] = next(n)
			n++
		}
		s.AppendMessages(context.Background(), batch)
		for _, m := range batch {
			if m.Err != nil {
				b.Fatal(m.Err)
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkUnreadTotals reads the totals of 200 users at once, each with 50 conversations
// and 20 groups, as for a message to a group when so many members get a push.
func BenchmarkUnreadTotals(b *testing.B) {
	s := benchStore(b, "totals")
	users := people(b, s, 250)
	var batch []*im.Message
	for i, user := range users[:200] {
		for j := range 50 {
			batch = append(batch, benchMessage(i, users[(i+j+1)%len(users)], user))
		}
	}
	for range 20 {
		g, err := s.CreateGroup(context.Background(), im.Group{Name: "g",
			Type: pb.GroupType_GROUP_TYPE_TMP, Members: users}, 0)
		if err != nil {
			b.Fatal(err)
		}
		m := benchMessage(0, users[249], g.ID)
		m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
		batch = append(batch, m)
	}
	s.AppendMessages(context.Background(), batch)
	b.ReportAllocs()
	for b.Loop() {
		totals, err := s.UnreadTotals(context.Background(), users[:200])
		if err != nil || totals[users[0]] != 70 {
			b.Fatal(totals[users[0]], err)
		}
	}
}
