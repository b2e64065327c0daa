package store

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
)

// lostServer is a proxy between a store and MySQL. When armed, it loses the server in a
// COMMIT: it passes the COMMIT on or drops it, closes all connections, and accepts none.
type lostServer struct {
	server string
	passes bool // it passes the COMMIT on
	armed  atomic.Bool
	lost   atomic.Bool
	tries  atomic.Int32 // connections after that

	mu   sync.Mutex
	open []net.Conn
}

func (p *lostServer) serve(client net.Conn) {
	defer client.Close()
	if p.lost.Load() {
		p.tries.Add(1)
		return
	}
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.open = append(p.open, client)
	p.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		defer client.Close()
		defer close(answered)
		in := make([]byte, 1<<20)
		for {
			n, err := server.Read(in)
			if err != nil || p.lost.Load() {
				return
			}
			client.Write(in[:n])
		}
	}()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT")) && p.armed.CompareAndSwap(true, false) {
			p.lost.Store(true)
			if p.passes {
				server.Write(buf[:n])
				<-answered
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, c := range p.open {
				c.Close()
			}
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestOutcomeElsewhere loses the database of one process in a COMMIT, for good. The process
// does not wait for it: its messages are in doubt, and another process that gets them again
// stores each of them once.
func TestOutcomeElsewhere(t *testing.T) {
	t.Parallel()
	for _, passes := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed %v", passes), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			other := e.store(t)
			u := users(t, other, 2)
			cfg, err := mysql.ParseDSN(e.dsn)
			if err != nil {
				t.Fatal(err)
			}
			p := &lostServer{server: cfg.Addr, passes: passes}
			cfg.Addr = accept(t, p.serve).Addr().String()
			e.o.Master = cfg.FormatDSN()
			s := e.store(t)
			s.outbox.ReachTimeout = 0
			send(t, s, texts(u[0], u[1], 2)...)
			batch := func() []*im.Message {
				named, numbered := text(u[0], u[1], "named"), text(u[0], u[1], "numbered")
				named.ClientID = []byte("a client_msg_id")
				numbered.SentAs, numbered.ResentWithin = 7, 60
				return []*im.Message{named, numbered}
			}
			p.armed.Store(true)
			doubtful := batch()
			s.AppendMessages(t.Context(), doubtful)
			for _, m := range doubtful {
				if !errors.Is(m.Err, im.ErrInDoubt) {
					t.Fatalf("error %v, want one in doubt", m.Err)
				}
			}
			if n := p.tries.Load(); n > 10 {
				t.Errorf("%d connections to a database that is gone, want a few", n)
			}
			again := batch()
			other.AppendMessages(t.Context(), again)
			for _, m := range again {
				if m.Err != nil || m.Duplicate != passes {
					t.Errorf("%s: %v, duplicate %v, want %v", m.Data, m.Err, m.Duplicate, passes)
				}
			}
		})
	}
}
