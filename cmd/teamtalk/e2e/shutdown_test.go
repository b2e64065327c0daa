//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"teamtalk/proto/pb"
)

// writer sends texts on one connection as fast as a window allows, and remembers what was acked. It never repeats anything.
type writer struct {
	*wire
	tag   string // of its texts
	to    uint32
	mu    sync.Mutex
	acked map[string]uint32 // message ids by text
}

// writerWindow is how many messages of a writer are on the way.
const writerWindow = 16

// write works until the connection ends. Only one goroutine may use the wire meanwhile.
func (w *writer) write() {
	texts := map[uint16]string{}
	next := func() {
		seq := uint16(len(texts) + 2)
		texts[seq] = fmt.Sprintf("%s %d to %d", w.tag, seq, w.to)
		w.send(seq, text(w.to, texts[seq]))
	}
	for range writerWindow {
		next()
	}
	for {
		f, err := w.read()
		if err != nil {
			return
		}
		if f.Command != pb.CmdMsgDataAck {
			continue // a message of the other of the pair
		}
		ack := &pb.IMMsgDataAck{}
		if err := ack.ParseBody(f.body); err != nil {
			w.t.Errorf("ack: %v", err)
		}
		w.mu.Lock()
		w.acked[texts[f.Seq]] = ack.GetMsgId()
		w.mu.Unlock()
		next()
	}
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// writers has so many users write to each other in pairs, all on one message server.
func writers(t *testing.T, addr, tag string, n uint32) (all []*writer, done *sync.WaitGroup) {
	t.Helper()
	done = &sync.WaitGroup{}
	for i := range n {
		w, _ := loggedIn(t, addr, fmt.Sprintf("u%05d", i+1), android)
		all = append(all, &writer{wire: w, tag: tag, to: (i ^ 1) + 1, acked: map[string]uint32{}})
	}
	for _, w := range all {
		done.Go(w.write)
	}
	return all, done
}

// TestShutdownUnderLoad asks a server to end while people write as fast as they can: it says that it is not ready, ends with code 0 and
// in time, and everything that was acked is there.
func TestShutdownUnderLoad(t *testing.T) {
	const users = 16
	s := settings{users: users + 1, measures: true, flags: []string{"--msg.rate", "0", "--msg.ack", "stored"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		addr := sys.msgAddr[0]
		idle, _ := loggedIn(t, addr, fmt.Sprintf("u%05d", users+1), android)
		all, done := writers(t, addr, "first", users)
		for _, w := range all {
			until(t, "everybody to have acks", func() bool { return w.count() >= 50 })
		}

		// Something that it must wait for keeps the server from ending before it was looked at.
		release := hold(t, sys, idle)
		target := sys.msg[0]
		target.terminate()
		until(t, "readyz to say that it stops", func() bool { return target.probe("/readyz") == http.StatusServiceUnavailable })
		if nc, err := net.Dial("tcp", addr); err == nil { // refused, by closing or by not listening any more
			late := dialed(t, nc)
			late.send(1, &pb.IMHeartBeat{})
			late.closed()
		}
		release()
		if code := target.awaitExit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		done.Wait()
		if sys.separate {
			idle.acked(2, 1) // what was on its way was finished
		}
		idle.closed()

		if sys.separate { // db_proxy the same, with the other message server in front of it
			more, done := writers(t, sys.msgAddr[1], "second", users)
			for _, w := range more {
				until(t, "everybody to have acks", func() bool { return w.count() >= 50 })
			}
			sys.dbproxy.stop()
			for _, w := range more {
				w.Close()
			}
			done.Wait()
			all = append(all, more...)
			sys.dbproxy.start()
		}
		target.start()
		for i, w := range all {
			name := fmt.Sprintf("u%05d", i%users+1)
			stored := map[string]uint32{}
			for _, m := range history(t, conn(t, addr, name, android), w.to) {
				stored[string(m.Data)] = m.ID
			}
			for text, id := range w.acked {
				if stored[text] != id {
					t.Errorf("%s: %q was acked as %d, and is stored as %d", name, text, id, stored[text])
				}
			}
		}
	})
}

// hold keeps the process that clients are connected to from ending until the function it returns is called.
func hold(t *testing.T, sys *deployment, idle *wire) func() {
	t.Helper()
	if !sys.separate {
		// Half a request to the login server. It is waited for, as for any other that has begun.
		nc, err := net.Dial("tcp", sys.loginHTTP)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		if _, err := nc.Write([]byte("GET /msg_server HTTP/1.1\r\nHost: x\r\n")); err != nil {
			t.Fatal(err)
		}
		// One that began later is answered, so this one has been seen.
		resp, err := admins.Get(sys.url() + "/msg_server")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return func() { nc.Close() }
	}
	// A message is on its way to a db_proxy that does not answer.
	sys.dbproxy.signal(syscall.SIGSTOP)
	idle.send(2, text(1, "held"))
	idle.alive()
	release := sync.OnceFunc(func() { sys.dbproxy.signal(syscall.SIGCONT) })
	t.Cleanup(release)
	return release
}
