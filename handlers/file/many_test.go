//go:build linux

package file_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/budget"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// descriptors returns the numbers of open files and connections of this process.
func descriptors(t testing.TB) (files, sockets int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch name, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); {
		case strings.HasPrefix(name, "socket:"):
			sockets++
		case strings.HasPrefix(name, "/"):
			files++
		}
	}
	return files, sockets
}

// many is one of the transfers of TestMany.
type many struct {
	h       *house
	n       int
	id      string
	content []byte
	cancel  int // offset at which it is cancelled; -1: never
	how     int // selects the way of cancelling and resuming
}

// relay runs a transfer between two clients.
func (m *many) relay() error {
	from, to := m.h.dial(), m.h.dial()
	defer from.Close()
	defer to.Close()
	if err := errors.Join(m.enter(from, 1, sender), m.enter(to, 2, receiver)); err != nil {
		return err
	}
	if _, msg, err := to.read(); err != nil || msg.Command() != pb.CmdFileState {
		return fmt.Errorf("not ready: %v", err)
	}
	served := make(chan error, 1)
	go func() {
		_, err := from.serve(m.id, 1, m.content, len(m.content)+1)
		served <- err
	}()
	until := len(m.content)
	if m.cancel >= 0 {
		until = m.cancel
	}
	got, err := to.fetch(m.id, 2, online, len(m.content), 0, 1+m.n%8, until)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	switch {
	case m.cancel < 0:
		if string(got) != string(m.content) {
			return errors.New("other bytes were relayed than sent")
		}
		err = to.write(3, state(m.id, 2, pb.ClientFileState_CLIENT_FILE_DONE))
	case m.how == 0:
		err = to.write(3, state(m.id, 2, pb.ClientFileState_CLIENT_FILE_CANCEL))
	case m.how == 1:
		err = to.Close()
	default:
		// The sender closes its connection while its other goroutine still reads.
		err = from.Close()
		<-served
		return err
	}
	return errors.Join(err, <-served)
}

// wait uploads a file and downloads it.
func (m *many) wait() error {
	up := m.h.dial()
	defer up.Close()
	if err := m.enter(up, 1, uploader); err != nil {
		return err
	}
	if m.cancel >= 0 {
		if _, err := up.serve(m.id, 1, m.content, m.cancel); err != nil {
			return err
		}
		// The connection is closed after the server has read the cancellation: a reset,
		// because of unread requests of the server, could overtake it.
		if err := errors.Join(up.write(4, state(m.id, 1, pb.ClientFileState_CLIENT_FILE_CANCEL)),
			up.Conn.(*net.TCPConn).CloseWrite()); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, up.r)
		return err
	}
	if m.how == 1 { // the upload is interrupted and resumed
		if _, err := up.serve(m.id, 1, m.content, len(m.content)/2); err != nil {
			return err
		}
		up.Close()
		up = m.h.dial()
		defer up.Close()
		if err := m.enter(up, 1, uploader); err != nil {
			return err
		}
	}
	if st, err := up.serve(m.id, 1, m.content,
		len(m.content)+1); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		return fmt.Errorf("upload ends with %v, %w", st, err)
	}
	down := m.h.dial()
	defer down.Close()
	if err := m.enter(down, 2, downloader); err != nil {
		return err
	}
	got, err := down.fetch(m.id, 2, offline, len(m.content), 0, 1+m.n%8, len(m.content))
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if string(got) != string(m.content) {
		return errors.New("other bytes were fetched than sent")
	}
	if _, msg, err := down.read(); err != nil ||
		msg.(*pb.IMFileState).GetState() != pb.ClientFileState_CLIENT_FILE_DONE {
		return fmt.Errorf("download does not end: %w", err)
	}
	return nil
}

func (m *many) enter(p *peer, user uint32, role pb.ClientFileRole) error {
	if err := p.write(1, pb.IMFileLoginReq_builder{UserId: &user, TaskId: &m.id,
		FileRole: &role}.Build()); err != nil {
		return err
	}
	_, rsp, err := p.read()
	if err != nil {
		return fmt.Errorf("login as %s: %w", role, err)
	}
	if r, ok := rsp.(*pb.IMFileLoginRsp); !ok || r.GetResultCode() != 0 {
		return fmt.Errorf("login as %s: %v", role, rsp)
	}
	return nil
}

// transfers is how many TestMany runs, see .ci/test.
var transfers = func() int {
	if os.Getenv("TEAMTALK_TEST_LONG") != "" {
		return 400
	}
	return 80
}()

// TestMany runs many transfers at the same time, half of them over the spool, and cancels
// a third of them: the others arrive whole, and nothing remains of any.
func TestMany(t *testing.T) {
	c := &clock{}
	h := open(t, file.Options{Now: c.Now, MaxUserTasks: 1000})
	h.stop()
	h.spoolOp.Now = c.Now
	h.start()
	files, sockets := descriptors(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	var wg sync.WaitGroup
	cancelled := 0
	for n := range transfers {
		m := &many{h: h, n: n, content: random(seed+uint64(n), 1+r.IntN(20*file.Segment)),
			cancel: -1, how: r.IntN(3)}
		if r.IntN(3) == 0 {
			// The cancellation precedes the last segment.
			m.cancel = r.IntN((len(m.content)+file.Segment-1)/file.Segment) * file.Segment
			cancelled++
		}
		run, mode := m.relay, online
		if n%2 == 0 {
			run, mode = m.wait, offline
		}
		m.id = h.task(1, 2, len(m.content), mode)
		wg.Go(func() {
			if err := run(); err != nil {
				t.Errorf("transfer %d (%s, %d bytes, cancelled at %d, way %d): %v", n, mode,
					len(m.content), m.cancel, m.how, err)
			}
		})
	}
	wg.Wait()
	h.until("the connections to be closed", func() bool {
		return h.clients.Open() == 0 &&
			h.servers.Open() == 0
	})
	h.until("the tasks to be gone", func() bool { return h.metric("teamtalk_file_tasks") == 0 })
	// Fetched files stay for a day.
	c.add(24*time.Hour + time.Second)
	h.until("the spool to be empty", func() bool {
		if _, err := h.spool.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(h.left()) == 0
	})
	h.until("descriptors to be closed", func() bool {
		f, s := descriptors(t)
		return f <= files && s <= sockets
	})
	if n := h.metric("teamtalk_file_spool_failures_total"); n != 0 {
		t.Errorf("%v failures of the spool", n)
	}
	if n := h.metric("teamtalk_file_violations_total"); n != 0 {
		t.Errorf("%v violations", n)
	}
	t.Logf("%d of %d cancelled", cancelled, transfers)
}

// TestMemory: the memory of a transfer depends neither on the length of the file nor on
// the speed of its receiver.
func TestMemory(t *testing.T) {
	h := open(t, file.Options{})
	h.stop()
	h.start()
	size := 32 << 20
	var before, after runtime.MemStats
	content := make([]byte, size) // shared by all transfers
	runtime.GC()
	runtime.ReadMemStats(&before)
	id, from, to := h.relay(size)
	go from.serve(id, 1, content, size+1)
	// The receiver requests the largest number of segments and does not read. It requests
	// no more before it has read them.
	for i := range 16 {
		to.send(9, pullReq(id, 2, online, i*file.Segment, file.Segment))
	}
	h.until("sixteen segments to be relayed",
		func() bool { return h.metric("teamtalk_file_bytes_total") == 16*file.Segment })
	for range 16 {
		next[*pb.IMFilePullDataRsp](to)
	}
	for at := 16 * file.Segment; at < size; {
		got, err := to.fetch(id, 2, online, size, at, 16, size)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			t.Fatal("no further segment arrived")
		}
		at += len(got)
		got = nil
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("heap grown by %d KiB", grown>>10)
	if grown > 8<<20 {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
}

// TestSlowReader: a receiver that requests more than it reads is closed before much data
// waits for it.
func TestSlowReader(t *testing.T) {
	h := open(t, file.Options{})
	size := 64 << 20
	id := h.task(1, 2, size, offline)
	up := h.in(1, id, uploader)
	if st, err := up.serve(id, 1, make([]byte, size),
		size+1); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		t.Fatal(st, err)
	}
	down := h.in(2, id, downloader)
	for at := 0; at < size; at += file.Segment {
		if down.write(9, pullReq(id, 2, offline, at, file.Segment)) != nil {
			break
		}
	}
	h.until("the reader to be closed", func() bool { return h.clients.Open() <= 1 })
}

// TestSlowReceiver: a receiver that requests more as soon as a segment was relayed, and
// never reads, is closed once the data that waits for it exceeds the bound, and the
// sender is told. Until then only that data is held, and the kernel's buffers.
func TestSlowReceiver(t *testing.T) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprint("loops=", loops), func(t *testing.T) {
			h := openOn(t, file.Options{}, loops)
			const size, window = 128 << 20, 8 * file.Segment
			id, from, to := h.relay(size)
			if err := to.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			end := make(chan pb.ClientFileState, 1)
			go func() {
				st, err := from.serve(id, 1, make([]byte, size), size+1)
				if err != nil {
					t.Errorf("sender: %v", err)
				}
				end <- st
			}()
			relayed := func() int { return int(h.metric("teamtalk_file_bytes_total")) }
			told := func() bool { return len(end) > 0 }
			for at := 0; at < size && !told(); at += file.Segment {
				h.until("a segment to be relayed",
					func() bool { return at-relayed() < window || told() })
				if to.write(9, pullReq(id, 2, online, at, file.Segment)) != nil {
					break
				}
			}
			if st := <-end; st != pb.ClientFileState_CLIENT_FILE_CANCEL {
				t.Errorf("the sender was told %v", st)
			}
			// The limits are the bound, and the kernel's largest buffers of a connection.
			if n := relayed(); n < 1<<20 || n > 24<<20 {
				t.Errorf("%d KiB were relayed", n>>10)
			}
			if n := h.metric("teamtalk_file_violations_total"); n != 0 {
				t.Errorf("%v violations", n)
			}
			h.until("the receiver to be closed", func() bool { return h.clients.Open() <= 1 })
		})
	}
}

// TestIdleCrowd opens 10,000 connections, or as many as this process may have, that never
// log in. Transfers continue, and the connections are closed.
func TestIdleCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 connections: not with -short")
	}
	if _, err := budget.New(); err != nil { // raises the limit
		t.Fatal(err)
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	crowd := min(10_000, int(min(lim.Cur, 1<<20)-500)/2) // this process holds both ends
	t.Logf("%d connections", crowd)
	h := open(t, file.Options{LoginDeadline: 5 * time.Second})
	for range crowd {
		c, err := net.Dial("tcp", h.clients.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	content := random(6, 200_000)
	id := h.task(1, 2, len(content), offline)
	if st, err := h.in(1, id, uploader).serve(id, 1, content,
		1<<30); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		t.Fatal(st, err)
	}
	p := h.in(2, id, downloader)
	got, err := p.fetch(id, 2, offline, len(content), 0, 4, len(content))
	if err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "beside a crowd", got, content)
	p.Close()
	h.until("the crowd to be closed", func() bool { return h.clients.Open() <= 1 })
}
