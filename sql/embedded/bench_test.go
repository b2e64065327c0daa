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

var benchDir = flag.String("benchdir", "", "directory on the disk to measure; default the one for temporary files")

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

// BenchmarkAppend stores messages of 88 bytes in 200 conversations, each batch spread over them; without and with client_msg_ids.
// rows/s is what to look at.
func BenchmarkAppend(b *testing.B) {
	for _, named := range []bool{false, true} {
		for _, size := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("named=%v/batch=%d", named, size), func(b *testing.B) { benchmarkAppend(b, size, named) })
		}
	}
}

func benchmarkAppend(b *testing.B, size int, named bool) {
	dir := *benchDir
	if dir == "" {
		dir = b.TempDir()
	}
	s := open(b, Options{Dir: filepath.Join(dir, fmt.Sprintf("bench%d-%v-%d", size, named, b.N))})
	defer s.Close()
	users := people(b, s, 400)
	data := bytes.Repeat([]byte("x"), 88)
	batch := make([]*im.Message, size)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			pair := n % 200
			m := &im.Message{From: users[2*pair], To: users[2*pair+1], Created: uint32(1_700_000_000 + n/20_000),
				Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: data}
			if n%3 == 0 {
				m.From, m.To = m.To, m.From
			}
			if named {
				m.ClientID = fmt.Appendf(nil, "%036d", n*7919)
			}
			batch[i] = m
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
