//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/proto/pb"
)

// steady is a user that writes at a fixed rate, as long as few of its texts are unacked,
// and sends no text again.
type steady struct {
	t    testing.TB
	sys  *deployment
	name string
	to   uint32

	quit             atomic.Bool // no further texts are sent
	writing, reading sync.WaitGroup

	mu       sync.Mutex
	conn     *wire             // nil between two connections
	sent     int               // texts that were given to the kernel, or are about to be
	written  int               // texts that the kernel has
	acked    map[string]uint32 // message ids by text
	got      []*pb.MsgData     // texts of the other user on this connection
	late     int               // texts that were sent when the end of the connection had arrived
	attempts int               // logins after the end of a connection
}

// Rates of the writers, and the number of unacked texts of one above which it pauses, so
// that no queue for one connection is full however long an outage takes.
const (
	steadyRate    = 100 // texts a second of all writers
	steadyWriters = 8
	steadyUnacked = 64
)

// newSteady connects a user, whose peer is the other one of its pair.
func newSteady(t testing.TB, sys *deployment, addr string, i uint32) *steady {
	t.Helper()
	s := &steady{t: t, sys: sys, name: fmt.Sprintf("u%05d", i+1), to: (i ^ 1) + 1,
		acked: map[string]uint32{}}
	s.conn, _ = loggedIn(t, addr, s.name, android)
	return s
}

// newSteadies connects the writers, half of them to each message server.
func newSteadies(t testing.TB, sys *deployment) (all []*steady) {
	t.Helper()
	for i := range uint32(steadyWriters) {
		all = append(all, newSteady(t, sys, sys.msgAddr[i/(steadyWriters/2)], i))
	}
	return all
}

// talk starts to write and to read. After the end of its connection the user connects
// again, as long as it writes.
func (s *steady) talk() {
	s.writing.Go(s.write)
	s.reading.Go(func() {
		for s.read(s.wire()); !s.quit.Load(); s.read(s.wire()) {
			s.reconnect()
		}
	})
}

// resume starts to write again.
func (s *steady) resume() {
	s.quit.Store(false)
	s.writing.Go(s.write)
}

// wire returns the connection, nil between two.
func (s *steady) wire() *wire {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// reconnect logs in at the message server that the login server names, as clients do, until
// it is logged in or no further texts are sent.
func (s *steady) reconnect() {
	for pause := firstPause; !s.quit.Load(); pause = min(2*pause, longestPause) {
		s.mu.Lock()
		s.attempts++
		s.mu.Unlock()
		if w := s.login(); w != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conn, s.got = w, nil
			return
		}
		time.Sleep(pause)
	}
}

// login tries to log in.
func (s *steady) login() *wire {
	addr := s.sys.chooseMsg()
	if addr == "" {
		return nil
	}
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil
	}
	w := dialed(s.t, nc)
	w.send(1, loginReq(s.name, "pw", android))
	res := &pb.IMLoginRes{}
	f, err := w.read()
	if err == nil && f.Command == pb.CmdLoginRes {
		err = res.ParseBody(f.body)
	}
	if err != nil || res.GetUserInfo() == nil {
		nc.Close()
		return nil
	}
	return w
}

// chooseMsg returns the address of a message server from one of the login servers, empty
// when none answers with one.
func (d *deployment) chooseMsg() string {
	for _, login := range d.loginHTTPs {
		resp, err := admins.Get("http://" + login + "/msg_server")
		if err != nil {
			continue
		}
		var where struct{ PriorIP, Port string }
		err = json.NewDecoder(resp.Body).Decode(&where)
		resp.Body.Close()
		if err == nil && where.Port != "" {
			return net.JoinHostPort(where.PriorIP, where.Port)
		}
	}
	return ""
}

// text returns the text of a number.
func (s *steady) text(n int) string { return fmt.Sprintf("%s %d", s.name, n) }

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

// flying returns the numbers of the texts that the kernel has and that may still be acked:
// those behind the last text with an ack. A caller knows that all of them were sent on the
// present connection when an ack has arrived on it.
func (s *steady) flying() (list []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := s.written; n > 0 && s.acked[s.text(n)] == 0; n-- {
		list = append(list, n)
	}
	return list
}

// id returns the message id of a text, 0 when it has no ack.
func (s *steady) id(n int) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked[s.text(n)]
}

// connected reports whether the user is connected: the end of the connection has not
// arrived.
func (s *steady) connected() bool {
	w := s.wire()
	return w != nil && !w.ended()
}

// unacked returns the numbers of the texts without an ack.
func (s *steady) unacked() (list []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := 1; n <= s.sent; n++ {
		if s.acked[s.text(n)] == 0 {
			list = append(list, n)
		}
	}
	return list
}

// next returns the next text, its seq and the connection for it, nil when there is none.
// Seqs are unique: no text counts as a repeat.
func (s *steady) next() (*wire, uint16, *pb.MsgData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.sent-len(s.acked) >= steadyUnacked {
		return nil, 0, nil
	}
	s.sent++
	return s.conn, uint16(s.sent + 1), text(s.to, s.text(s.sent))
}

func (s *steady) write() {
	pace := time.NewTicker(steadyWriters * time.Second / steadyRate)
	defer pace.Stop()
	for !s.quit.Load() {
		<-pace.C
		if w, seq, m := s.next(); w != nil {
			w.send(seq, m)
			late := w.ended()
			s.mu.Lock()
			if late {
				s.late++
			}
			s.written = s.sent
			s.mu.Unlock()
		}
	}
}

// ended reports whether the end of the connection has arrived, also when it was not read.
func (w *wire) ended() (yes bool) {
	raw, err := w.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, _ := unix.Poll(fds, 0)
		yes = n > 0
	})
	return yes || err != nil
}

// read records acks and texts until the connection ends.
func (s *steady) read(w *wire) {
	if w == nil {
		return
	}
	for {
		f, err := w.read()
		if err != nil {
			break
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
	w.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
}

// settle ends the writing, and waits until every text of the connection is acked or the
// connection has ended.
func (s *steady) settle() {
	s.t.Helper()
	s.quit.Store(true)
	s.writing.Wait()
	until(s.t, "the last text of "+s.name+" to be acked", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.acked[s.text(s.sent)] != 0 || s.conn == nil
	})
}

// hangUp closes the connection.
func (s *steady) hangUp() {
	if w := s.wire(); w != nil {
		w.Close()
	}
	s.reading.Wait()
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
// of writing, and none that was not acked. addr is a message server's.
func (s *steady) stored(addr string) {
	s.t.Helper()
	ids := map[string][]uint32{}
	for _, m := range history(s.t, conn(s.t, addr, s.name, ios), s.to) {
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
