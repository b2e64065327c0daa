//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// writer sends texts on one connection as fast as its window and its pace allow, and records
// the acks. It never sends a text again.
type writer struct {
	*wire
	tag   string // of its texts
	to    uint32
	pace  time.Duration // between two texts, once the window is full
	quit  atomic.Bool   // no further texts are sent
	mu    sync.Mutex
	sent  int
	acked map[string]uint32 // message ids by text
}

// writerWindow is the number of unacked messages of a writer.
const writerWindow = 16

// write sends texts until the connection ends, and closes it. Meanwhile no other goroutine
// may use the wire.
func (w *writer) write() {
	defer w.Close()
	next := func() {
		if w.quit.Load() {
			return
		}
		w.mu.Lock()
		w.sent++
		seq := uint16(w.sent + 1)
		w.mu.Unlock()
		w.send(seq, text(w.to, w.text(seq)))
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
			continue // a message of the peer
		}
		ack := &pb.IMMsgDataAck{}
		if err := ack.ParseBody(f.body); err != nil {
			w.t.Errorf("ack: %v", err)
		}
		w.mu.Lock()
		w.acked[w.text(f.Seq)] = ack.GetMsgId()
		w.mu.Unlock()
		time.Sleep(w.pace)
		next()
	}
}

// text returns the text of a seq.
func (w *writer) text(seq uint16) string { return fmt.Sprintf("%s %d to %d", w.tag, seq, w.to) }

// count returns the number of acks.
func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// furtherAcks waits until each writer has n more acks than now.
func furtherAcks(t *testing.T, all []*writer, n int) {
	t.Helper()
	want := make([]int, len(all))
	for i, w := range all {
		want[i] = w.count() + n
	}
	for i, w := range all {
		until(t, "all writers to have more acks", func() bool { return w.count() >= want[i] })
	}
}

// steadily is the pace of writers of a test that only needs texts all the time. Without a pace
// eight writers take all processors while servers start and stop, and each other test waits.
const steadily = 60 * time.Millisecond

// writers lets n users write to each other in pairs, all on one message server.
func writers(t *testing.T, addr, tag string, n uint32, pace time.Duration) (all []*writer,
	done *sync.WaitGroup) {
	t.Helper()
	done = &sync.WaitGroup{}
	for i := range n {
		w, _ := loggedIn(t, addr, fmt.Sprintf("u%05d", i+1), android)
		all = append(all, &writer{wire: w, tag: tag, to: (i ^ 1) + 1,
			pace: pace, acked: map[string]uint32{}})
	}
	for _, w := range all {
		done.Go(w.write)
	}
	return all, done
}

// TestShutdownUnderLoad stops a message server, and then db_proxy, while users write as
// fast as they can. The message server reports that it is not ready, finishes accepted
// work and ends with code 0. Every message that was acked is stored.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	const users = 16
	s := settings{users: users + 1, races: true,
		flags: []string{"--msg.rate", "0", "--msg.ack", "stored"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		addr, target := sys.msgAddr[0], sys.msg[0]
		idle, _ := loggedIn(t, addr, fmt.Sprintf("u%05d", users+1), android)
		all, done := writers(t, addr, "first", users, 0)
		for _, w := range all {
			until(t, "all writers to have acks", func() bool { return w.count() >= 50 })
		}
		stopHeld(t, sys, idle)
		done.Wait()
		if sys.separate {
			idle.acked(2, 1) // the held message was in flight, and is finished
		}
		idle.closed()
		if sys.separate {
			all = append(all, stopDBProxy(t, sys, users)...)
		}
		target.start()
		for i, w := range all {
			checkStored(t, addr, fmt.Sprintf("u%05d", i%users+1), w)
		}
	})
}

// stopHeld stops the first message server while it waits for held work. Meanwhile the
// server reports that it is not ready, and serves no new connection. The login server sends
// no client there.
func stopHeld(t *testing.T, sys *deployment, idle *wire) {
	t.Helper()
	// The held work keeps the server from ending before the test has examined it.
	release, target := hold(t, sys, idle), sys.msg[0]
	target.terminate()
	until(t, "readyz to report that the server stops", func() bool {
		return target.probe("/readyz") == http.StatusServiceUnavailable
	})
	if sys.separate {
		until(t, "the login server to list the other message server alone", func() bool {
			return sys.login.metric("teamtalk_login_message_servers", "") == 1
		})
	}
	// The server refuses the connection: it closes it, or no longer listens.
	if nc, err := net.Dial("tcp", sys.msgAddr[0]); err == nil {
		late := dialed(t, nc)
		late.send(1, &pb.IMHeartBeat{})
		late.closed()
	}
	release()
	if code := target.awaitExit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// stopDBProxy restarts db_proxy while users write on the other message server. It returns
// the writers.
func stopDBProxy(t *testing.T, sys *deployment, users uint32) []*writer {
	t.Helper()
	all, done := writers(t, sys.msgAddr[1], "second", users, 0)
	for _, w := range all {
		until(t, "all writers to have acks", func() bool { return w.count() >= 50 })
	}
	sys.dbproxy.stop()
	for _, w := range all {
		w.Close()
	}
	done.Wait()
	sys.dbproxy.start()
	return all
}

// checkStored checks that the store has every text of the user name that was acked, under
// the id of its ack.
func checkStored(t *testing.T, addr, name string, w *writer) {
	t.Helper()
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

// hold keeps the first message server from ending until the caller calls the returned
// function.
func hold(t *testing.T, sys *deployment, idle *wire) func() {
	t.Helper()
	if !sys.separate {
		// The process waits for this half of a request to its login server, as for every
		// request that has begun.
		nc, err := net.Dial("tcp", sys.loginHTTP)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		if _, err := nc.Write([]byte("GET /msg_server HTTP/1.1\r\nHost: x\r\n")); err != nil {
			t.Fatal(err)
		}
		// The answer to a later request shows that the server has read the first one.
		resp, err := admins.Get(sys.url() + "/msg_server")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return func() { nc.Close() }
	}
	// A message is in flight to a db_proxy that does not answer.
	sys.dbproxy.signal(syscall.SIGSTOP)
	idle.send(2, text(1, "held"))
	idle.alive()
	release := sync.OnceFunc(func() { sys.dbproxy.signal(syscall.SIGCONT) })
	t.Cleanup(release)
	return release
}

// TestSecondSignal: a process that finishes its work ends at once with a second signal, by that
// signal, and logs it.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: 1})
	idle, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
	hold(t, sys, idle)
	target := sys.msg[0]
	target.terminate()
	until(t, "readyz to report that the server stops", func() bool {
		return target.probe("/readyz") == http.StatusServiceUnavailable
	})
	target.terminate()
	if code := target.awaitExit(); code != -1 {
		t.Errorf("exit code %d, want the end by a signal", code)
	}
	log, err := os.ReadFile(target.log)
	if err != nil {
		t.Fatal(err)
	}
	if log := string(log); !strings.Contains(log, "ended by a second signal") ||
		strings.Contains(log, "msg=stopped") {
		t.Errorf("the log does not name the signal: %s", tail([]byte(log), 10))
	}
}
