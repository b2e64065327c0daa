package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// BenchmarkAppend stores messages of 88 bytes in 200 conversations, four batches at a
// time, durably. Read the messages/s.
//
//	go test ./sql/store -run '^$' -bench Append -benchtime 3s
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkAppend(b, size, false) })
	}
	b.Run("256, client ids", func(b *testing.B) { benchmarkAppend(b, 256, true) })
}

// BenchmarkGroupAppend stores the same messages in 100 groups of 20 members. All
// members send.
//
//	go test ./sql/store -run '^$' -bench 'Append/(64|256)$' -benchtime 3s
func BenchmarkGroupAppend(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkGroupAppend(b, size) })
	}
}

func benchmarkGroupAppend(b *testing.B, size int) {
	const groups, members = 25, 20 // for each worker
	e := newEnv(b)
	s := e.store(b)
	u := users(b, s, members)
	var all []uint32
	for range workers * groups {
		all = append(all, newGroup(b, s, u...))
	}
	body := []byte(strings.Repeat("x", 88))
	appendBatches(b, s, size, func(w, n int) []*im.Message {
		list := make([]*im.Message, size)
		now := uint32(time.Now().Unix())
		for i := range list {
			k := n*size + i
			list[i] = &im.Message{From: u[(k/groups)%members], To: all[w*groups+k%groups],
				Created: now, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: body,
				SentAs: pb.SentAs(pb.ClientType_CLIENT_TYPE_ANDROID, uint16(k))}
		}
		return list
	})
}

// workers is the number of batches that run at once.
const workers = 4

// benchmarkAppend gives each of four workers its own conversations, as strands do.
func benchmarkAppend(b *testing.B, size int, clientIDs bool) {
	const pairs = 50
	e := newEnv(b)
	s := e.store(b)
	u := users(b, s, 2*workers*pairs)
	body := []byte(strings.Repeat("x", 88))
	appendBatches(b, s, size, func(w, n int) []*im.Message {
		list := make([]*im.Message, size)
		now := uint32(time.Now().Unix())
		for i := range list {
			p := 2 * (w*pairs + (n*size+i)%pairs)
			from, to := u[p], u[p+1]
			if i%2 == 1 {
				from, to = to, from
			}
			list[i] = &im.Message{From: from, To: to, Created: now,
				Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: body,
				SentAs: pb.SentAs(pb.ClientType_CLIENT_TYPE_ANDROID, uint16(n*size+i))}
			if clientIDs {
				list[i].ClientID = fmt.Appendf(nil, "%d-%d-%d", w, n, i)
			}
		}
		return list
	})
}

// appendBatches stores b.N batches of a size.
func appendBatches(b *testing.B, s *Store, size int, batch func(worker, n int) []*im.Message) {
	var next sync.Mutex
	left := b.N
	b.ReportAllocs() // per batch
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := 0; ; n++ {
				next.Lock()
				left--
				done := left < 0
				next.Unlock()
				if done {
					return
				}
				list := batch(w, n)
				s.AppendMessages(context.Background(), list)
				for _, m := range list {
					if m.Err != nil {
						b.Error(m.Err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkReplicaRead reads histories of 20 messages, eight at a time, from the master, and
// from a replica that must have what the master has committed.
//
//	go test ./sql/store -run '^$' -bench ReplicaRead -benchtime 3s
func BenchmarkReplicaRead(b *testing.B) {
	e, pair := pairEnv(b)
	e.o.Workers, e.o.ReplicaWait = 8, time.Second
	u := users(b, e.store(b), 2)
	send(b, e.store(b), texts(u[0], u[1], 20)...)
	pair.Sync(b)
	for _, from := range []string{e.o.Slave, ""} {
		name := "replica"
		if e.o.Slave = from; from == "" {
			name = "master"
		}
		s := e.store(b)
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(4) // eight on two processors
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if h, err := s.History(b.Context(), u[0], u[1], 0, 20); err != nil ||
						len(h) != 20 {
						b.Errorf("%d messages, %v", len(h), err)
					}
				}
			})
			if from != "" && reads(b, s, "replica") < float64(b.N) {
				b.Logf("%v of %d reads on the replica", reads(b, s, "replica"), b.N)
			}
		})
	}
}

// BenchmarkGroupHistory reads the newest 20 messages of a group of 1,000 messages, as a
// client does that opens a conversation.
func BenchmarkGroupHistory(b *testing.B) {
	e := newEnv(b)
	s := e.store(b)
	u := users(b, s, 20)
	g := newGroup(b, s, u...)
	send(b, s, groupTexts(u[0], g, 1000)...)
	for b.Loop() {
		list, err := s.GroupHistory(b.Context(), u[1], g, 0, 20)
		if err != nil || len(list) != 20 {
			b.Fatalf("%d messages, %v", len(list), err)
		}
	}
}

// BenchmarkGroupPages reads 1,000 groups of 12 members by pages, changed since the last time,
// as a db_proxy does for a client that has none of its groups.
//
//	go test ./sql/store -run '^$' -bench GroupPages
func BenchmarkGroupPages(b *testing.B) {
	e := newEnv(b)
	s := e.store(b)
	u := users(b, s, 12)
	ids := make([]uint32, 1000)
	for i := range ids {
		ids[i] = newGroup(b, s, u...)
	}
	for _, changed := range []bool{true, false} {
		for _, page := range []int{50, 250, 1000} {
			b.Run(fmt.Sprintf("changed=%v/page=%d", changed, page), func(b *testing.B) {
				for b.Loop() {
					if changed {
						b.StopTimer()
						touchGroups(b, e)
						b.StartTimer()
					}
					for part := range slices.Chunk(ids, page) {
						list, err := s.Groups(b.Context(), part)
						if err != nil || len(list) != page {
							b.Fatalf("%d groups, %v", len(list), err)
						}
					}
				}
			})
		}
	}
}

// touchGroups gives all groups a new version.
func touchGroups(b *testing.B, e *env) {
	b.Helper()
	if _, err := e.db.Exec("UPDATE IMGroup SET version=version+1"); err != nil {
		b.Fatal(err)
	}
}
