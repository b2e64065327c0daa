//go:build linux

package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// steady is a user that writes at a fixed rate, as long as few of its texts are unacked,
// and sends no text again.
type steady struct {
	*wire
	t    testing.TB
	name string
	addr string
	to   uint32

	quit atomic.Bool // no further texts are sent
	over atomic.Bool // the server closed the connection
	done sync.WaitGroup

	mu    sync.Mutex
	sent  int
	acked map[string]uint32 // message ids by text
	got   []*pb.MsgData     // texts of the other user on this connection
}

// Rates of the writers, and the number of unacked texts of one above which it pauses, so
// that no queue for one connection is full however long an outage takes.
const (
	steadyRate    = 200 // texts a second of all writers
	steadyWriters = 8
	steadyUnacked = 64
)

// newSteady connects a user, whose peer is the other one of its pair.
func newSteady(t testing.TB, addr string, i uint32) *steady {
	t.Helper()
	s := &steady{t: t, name: fmt.Sprintf("u%05d", i+1), addr: addr, to: (i ^ 1) + 1,
		acked: map[string]uint32{}}
	s.connect()
	return s
}

// connect logs in.
func (s *steady) connect() {
	s.t.Helper()
	s.wire, _ = loggedIn(s.t, s.addr, s.name, android)
	s.got = nil
	s.over.Store(false)
}

// talk starts to write and to read.
func (s *steady) talk() {
	s.done.Go(s.write)
	s.done.Go(s.read)
}

// text returns the text of a number.
func (s *steady) text(n int) string { return fmt.Sprintf("%s %d", s.name, n) }

// waiting returns the number of texts that are not acked.
func (s *steady) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent - len(s.acked)
}

// count returns the number of acks.
func (s *steady) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// lost returns the number of texts that are not acked although a later one is: the server
// answers in the order of the texts.
func (s *steady) lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, lost := s.sent, 0
	for n > 0 && s.acked[s.text(n)] == 0 {
		n--
	}
	for ; n > 0; n-- {
		if text := s.text(n); s.acked[text] == 0 {
			lost++
		}
	}
	return lost
}

// next returns the next text and its seq. Seqs are unique: no text counts as a repeat.
func (s *steady) next() (uint16, *pb.MsgData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	return uint16(s.sent + 1), text(s.to, s.text(s.sent))
}

func (s *steady) write() {
	pace := time.NewTicker(steadyWriters * time.Second / steadyRate)
	defer pace.Stop()
	for !s.quit.Load() && !s.over.Load() {
		<-pace.C
		if s.waiting() < steadyUnacked {
			seq, m := s.next()
			s.send(seq, m)
		}
	}
}

// read records acks and texts until the connection ends.
func (s *steady) read() {
	defer s.over.Store(true)
	for {
		f, err := s.wire.read()
		if err != nil {
			return
		}
		switch f.Command {
		case pb.CmdMsgDataAck:
			ack := &pb.IMMsgDataAck{}
			if err := ack.ParseBody(f.body); err != nil {
				s.t.Errorf("ack: %v", err)
			}
			s.mu.Lock()
			s.acked[s.text(int(f.Seq)-1)] = ack.GetMsgId()
			s.mu.Unlock()
		case pb.CmdMsgData:
			m := &pb.MsgData{}
			if err := m.ParseBody(f.body); err != nil {
				s.t.Errorf("text: %v", err)
			}
			s.mu.Lock()
			s.got = append(s.got, m)
			s.mu.Unlock()
		}
	}
}

// settle ends the writing, and waits until every text is acked or the connection has
// ended.
func (s *steady) settle() {
	s.t.Helper()
	s.quit.Store(true)
	until(s.t, "all texts of "+s.name+" to be acked", func() bool {
		return s.waiting() == 0 || s.over.Load()
	})
}

// heardAll checks that the connection received the texts of the other user in the order of
// their ids, each once, and every one that was acked after the other's text number from.
func (s *steady) heardAll(other *steady, from int) {
	s.t.Helper()
	until(s.t, s.name+" to receive the texts of "+other.name, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.got) >= other.count()-from
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	last := uint32(0)
	for _, m := range s.got {
		if m.MsgID <= last {
			s.t.Errorf("%s received message %d after %d", s.name, m.MsgID, last)
		}
		last = m.MsgID
		if id := other.acked[string(m.Data)]; id != m.MsgID {
			s.t.Errorf("%s received %q as %d, and it was acked as %d", s.name, m.Data, m.MsgID, id)
		}
	}
}

// stored checks the history: every acked text once, under the id of its ack, in the order
// of writing, and none that was not acked.
func (s *steady) stored() {
	s.t.Helper()
	ids := map[string][]uint32{}
	for _, m := range history(s.t, conn(s.t, s.addr, s.name, ios), s.to) {
		ids[string(m.Data)] = append(ids[string(m.Data)], m.ID)
	}
	last := uint32(0)
	for n := 1; n <= s.sent; n++ {
		text := s.text(n)
		got, id := ids[text], s.acked[text]
		switch {
		case id == 0 && len(got) > 0:
			s.t.Errorf("%q is stored as %v and was not acked", text, got)
		case id != 0 && (len(got) != 1 || got[0] != id):
			s.t.Errorf("%q was acked as %d and is stored as %v", text, id, got)
		case id != 0 && id <= last:
			s.t.Errorf("%q has id %d, and a text before it %d", text, id, last)
		case id != 0:
			last = id
		}
	}
}

// TestRolesLeave stops each role in turn with SIGTERM, dbproxy also with SIGKILL, and
// starts it again, while clients that send no text again write 200 texts a second. There is
// one process of each role but the message server. Every text is acked, stored once, in the
// order of its sender, and delivered. A message server that stops closes the connections
// of its clients: the texts that were on their way then are not stored.
func TestRolesLeave(t *testing.T) {
	t.Parallel()
	sys := deploySeparate(t, settings{users: steadyWriters + 1, files: true,
		flags: []string{"--msg.rate", "0", "--msg.hold", "60s"}})
	var all []*steady
	for i := range uint32(steadyWriters) {
		all = append(all, newSteady(t, sys.msgAddr[i/(steadyWriters/2)], i))
	}
	for _, s := range all {
		s.talk()
	}
	more := func() {
		t.Helper()
		n := make([]int, len(all))
		for i, s := range all {
			n[i] = s.count() + 10
		}
		for i, s := range all {
			until(t, "all writers to have more acks", func() bool { return s.count() >= n[i] })
		}
	}
	more()
	lost := 0
	restart := func(s *server, how string, end func(*server)) {
		t.Helper()
		end(s)
		s.start()
		more()
		before := lost
		lost = 0
		for _, w := range all {
			lost += w.lost()
		}
		if lost > before {
			t.Errorf("%s of %s: %d texts are not acked", how, s.name, lost-before)
		}
	}
	for _, s := range sys.servers {
		if s != sys.msg[0] && s != sys.msg[1] {
			restart(s, "SIGTERM", (*server).stop)
		}
	}
	restart(sys.dbproxy, "SIGKILL", (*server).kill)
	if t.Failed() {
		return
	}
	for _, s := range all {
		s.settle()
		if n := s.waiting(); n > 0 {
			t.Errorf("%d of %d texts of %s are not acked", n, s.sent, s.name)
		}
	}
	for i, s := range all {
		s.heardAll(all[i^1], 0)
	}
	for _, s := range all {
		s.stored()
	}
}
