//go:build linux

package main_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// chatFile is a file in chat's JSON.
type chatFile struct {
	N      int    `json:"n"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	From   string `json:"from"`
	Online bool   `json:"online"`
	State  string `json:"state"`
	Moved  int64  `json:"moved"`
	Path   string `json:"path"`
	Error  string `json:"error"`
}

// chatEvent is a line of chat's JSON.
type chatEvent struct {
	Event string      `json:"event"`
	Cmd   string      `json:"cmd"`
	From  string      `json:"from"`
	Text  string      `json:"text"`
	Error string      `json:"error"`
	File  *chatFile   `json:"file"`
	Files []*chatFile `json:"files"`

	Contacts []struct {
		Status string `json:"status"`
	} `json:"contacts"`
}

// chatter is "teamtalk chat USER --json" as a process, which may be killed and started again with what it left on the disk.
type chatter struct {
	t         testing.TB
	user      string
	args      []string
	downloads string
	long      bool // what it does takes longer than patience

	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan chatEvent
	back  []chatEvent // to be read before those
	log   *output
}

// newChatter logs in.
func newChatter(t testing.TB, sys *deployment, user string, at int) *chatter {
	t.Helper()
	c := &chatter{t: t, user: user, downloads: filepath.Join(t.TempDir(), "downloads of "+user)} // made by the first file
	c.args = []string{"chat", user, "--json", "--password", "pw", "--msg-server", sys.msgAddr[at], "--downloads", c.downloads,
		"--state", filepath.Join(t.TempDir(), "state"), "--timeout", "30s"}
	t.Cleanup(func() {
		if c.cmd != nil {
			c.kill()
		}
		if t.Failed() {
			t.Logf("%s: %s", user, tail([]byte(c.log.String()), 40))
		}
	})
	c.start()
	return c
}

// start runs the process and waits until it has logged in.
func (c *chatter) start() {
	c.t.Helper()
	cmd := exec.Command(program(c.t), c.args...)
	cmd.Env, cmd.Dir = environment(), c.t.TempDir()
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	log := &output{}
	cmd.Stderr = log
	if err := startBound(cmd); err != nil {
		c.t.Fatal(err)
	}
	lines := make(chan chatEvent, 10_000)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			fmt.Fprintln(log, sc.Text())
			var e chatEvent
			if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
				e = chatEvent{Event: "garbage", Error: err.Error()}
			}
			lines <- e
		}
	}()
	c.cmd, c.in, c.lines, c.back, c.log = cmd, in, lines, nil, log
	c.await("to be logged in", func(e chatEvent) bool { return e.Event == "ready" })
}

// kill ends the process as a power failure would.
func (c *chatter) kill() {
	c.t.Helper()
	_ = c.cmd.Process.Kill()
	for range c.lines {
	}
	_ = c.cmd.Wait()
	c.cmd = nil
}

// quit ends the input and waits for the process to end well.
func (c *chatter) quit() {
	c.t.Helper()
	c.in.Close()
	for range c.lines {
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("%s: %v", c.user, err)
	}
	c.cmd = nil
}

// say gives a command.
func (c *chatter) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
}

// await reads events up to one that will do. A command that failed fails the test.
func (c *chatter) await(what string, ok func(e chatEvent) bool) chatEvent {
	c.t.Helper()
	wait := patience
	if c.long {
		wait *= 10
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		var e chatEvent
		if len(c.back) > 0 {
			e, c.back = c.back[0], c.back[1:]
		} else {
			more := true
			select {
			case e, more = <-c.lines:
			case <-limit.C:
				c.t.Fatalf("waited %v for %s %s", wait, c.user, what)
			}
			if !more {
				c.t.Fatalf("%s has ended, and was %s", c.user, what)
			}
		}
		switch {
		case ok(e):
			return e
		case e.Event == "error" || e.Event == "garbage":
			c.t.Fatalf("%s: %s", c.user, e.Error)
		}
	}
}

// file waits until a file is in a state.
func (c *chatter) file(state string) *chatFile {
	c.t.Helper()
	return c.await("to have a file that is "+state, func(e chatEvent) bool {
		if e.Event == "file" && e.File.State == "failed" && state != "failed" {
			c.t.Fatalf("%s: %s failed: %s", c.user, e.File.Name, e.File.Error)
		}
		return e.Event == "file" && e.File.State == state
	}).File
}

// waiting is how many files the server keeps for the user. One that was offered directly, and withdrawn before it was fetched, is not among them: nobody
// tells a receiver of that, who finds out when fetching it.
func (c *chatter) waiting() int {
	c.t.Helper()
	c.say(`{"cmd":"files"}`)
	n := 0
	for _, f := range c.await("to list files", func(e chatEvent) bool { return e.Event == "files" }).Files {
		if f.State == "waiting" {
			n++
		}
	}
	return n
}

// stop cancels a transfer, and returns when nothing moves any more. What is told of it meanwhile is not lost.
func (c *chatter) stop(n int) {
	c.t.Helper()
	c.say(`{"cmd":"cancel_file","n":%d}`, n)
	var passed []chatEvent
	c.await("to have cancelled", func(e chatEvent) bool {
		if e.Event == "done" && e.Cmd == "cancel_file" {
			return true
		}
		passed = append(passed, e)
		return false
	})
	c.back = append(passed, c.back...)
}

// sees waits until the user's message server knows that another is there: it may be a moment behind that one's own.
func (c *chatter) sees(other *chatter) {
	c.t.Helper()
	until(c.t, c.user+" to see "+other.user, func() bool {
		c.say(`{"cmd":"status","users":[%q]}`, other.user)
		e := c.await("to hear who is there", func(e chatEvent) bool { return e.Event == "status" })
		return len(e.Contacts) == 1 && e.Contacts[0].Status == "online"
	})
}

// folder is what the downloads are called.
func (c *chatter) folder() []string {
	c.t.Helper()
	list, err := os.ReadDir(c.downloads)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// valve is a relay before a server's port that can be shut after so many bytes. It measures the server's clients too.
type valve struct {
	t  testing.TB
	ln net.Listener

	mu     sync.Mutex
	server string
	open   *sync.Cond
	passed int64 // both ways
	limit  int64 // nothing is passed on beyond
	conns  map[net.Conn]bool
}

// never is a limit that is not reached.
const never = int64(1) << 62

// newValve listens; server is set before the first connection.
func newValve(t testing.TB) *valve {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{t: t, ln: ln, limit: never, conns: map[net.Conn]bool{}}
	v.open = sync.NewCond(&v.mu)
	t.Cleanup(func() {
		ln.Close()
		v.set(never)
		v.mu.Lock()
		defer v.mu.Unlock()
		for c := range v.conns {
			c.Close()
		}
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go v.serve(c)
		}
	}()
	return v
}

// flags have a file server tell clients to come here.
func (v *valve) flags() []string {
	_, port, _ := net.SplitHostPort(v.ln.Addr().String())
	return []string{"--file.advertise-ip", "127.0.0.1", "--file.advertise-port", port}
}

func (v *valve) serve(c net.Conn) {
	defer c.Close()
	v.mu.Lock()
	server := v.server
	v.mu.Unlock()
	s, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer s.Close()
	v.mu.Lock()
	v.conns[c], v.conns[s] = true, true
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.conns, c)
		delete(v.conns, s)
	}()
	var both sync.WaitGroup
	both.Go(func() { v.pass(s, c) })
	both.Go(func() { v.pass(c, s) })
	both.Wait()
}

// pass copies one way until an end has gone.
func (v *valve) pass(dst, src net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		v.mu.Lock()
		for v.passed+int64(n) > v.limit {
			v.open.Wait()
		}
		v.passed += int64(n)
		v.open.Broadcast()
		v.mu.Unlock()
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			if half, ok := dst.(*net.TCPConn); ok && err == io.EOF && werr == nil {
				half.CloseWrite()
			} else {
				dst.Close()
				src.Close()
			}
			return
		}
	}
}

// set lets bytes through up to a limit.
func (v *valve) set(limit int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.limit = limit
	v.open.Broadcast()
}

// shutAfter lets n more bytes through.
func (v *valve) shutAfter(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.limit = v.passed + n
	v.open.Broadcast()
}

// total is how much was passed on.
func (v *valve) total() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.passed
}

// awaitShut waits until the valve holds something back, or nearly.
func (v *valve) awaitShut() {
	v.t.Helper()
	until(v.t, "bytes to be held up", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.limit-v.passed < 16<<10
	})
}

// writeRandom makes a file and returns its path and sum.
func writeRandom(t testing.TB, name string, size int64) (string, [32]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	src := rand.NewChaCha8([32]byte{byte(size), 7})
	if _, err := io.CopyN(io.MultiWriter(f, sum), src, size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path, [32]byte(sum.Sum(nil))
}

// sumOf is the sum of a file.
func sumOf(t testing.TB, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(sum.Sum(nil))
}

// forFiles runs a test on a system of each shape whose file server is behind a valve.
func forFiles(t *testing.T, run func(t *testing.T, sys *deployment, v *valve)) {
	program(t)
	for _, shape := range []string{allInOne, separate} {
		t.Run(shape, func(t *testing.T) {
			deploy := deployAllInOne
			if shape == separate {
				deploy = deploySeparate
			}
			v := newValve(t)
			sys := deploy(t, settings{users: 3, files: true, flags: v.flags()})
			v.mu.Lock()
			v.server = sys.fileAddr
			v.mu.Unlock()
			awaitFileServer(t, sys)
			run(t, sys, v)
		})
	}
}

// awaitFileServer returns when both message servers know where files go. They are ready without: a file server is no condition for talking.
func awaitFileServer(t *testing.T, sys *deployment) {
	t.Helper()
	for _, addr := range sys.msgAddr {
		w, _ := loggedIn(t, addr, "u00003", pb.ClientType_CLIENT_TYPE_ANDROID)
		seq := uint16(10)
		until(t, "the address of the file server", func() bool {
			seq++
			req, rsp := &pb.IMFileHasOfflineReq{}, &pb.IMFileHasOfflineRsp{}
			req.SetUserId(0)
			w.send(seq, req)
			w.expectSeq(seq, rsp)
			return len(rsp.GetIpAddrList()) > 0
		})
		w.Close()
	}
}

// TestFileOffline leaves a file with the server, with the sender and the server killed on the way, and fetches it, with the receiver and the server killed
// on the way: what arrives is the same, and little went over twice.
func TestFileOffline(t *testing.T) {
	t.Parallel()
	forFiles(t, func(t *testing.T, sys *deployment, v *valve) {
		const size, piece = 6<<20 + 12345, 2 << 20
		path, sum := writeRandom(t, "annual report, draft.pdf", size)
		sender := newChatter(t, sys, "u00001", 0)
		v.shutAfter(piece)
		sender.say(`{"cmd":"send_file","to":"u00002","file":%q}`, path)
		if f := sender.file("sending"); f.Online || f.Size != size {
			t.Errorf("sending %+v to somebody who is not there", f)
		}
		v.awaitShut()
		sender.kill()
		v.shutAfter(piece)
		sender.start()
		sender.file("sending")
		v.awaitShut()
		sys.file.kill()
		v.set(never)
		sys.file.start()
		sender.file("done")
		checkPassed(t, "up", v.total(), size)

		before := v.total()
		v.shutAfter(piece)
		receiver := newChatter(t, sys, "u00002", 1)
		f := receiver.file("waiting")
		if f.Name != "annual report, draft.pdf" || f.Size != size || f.From != "u00001" || f.Online {
			t.Errorf("waiting %+v", f)
		}
		receiver.say(`{"cmd":"get_file","n":%d}`, f.N)
		v.awaitShut()
		receiver.kill()
		if names := receiver.folder(); len(names) != 1 || !strings.HasSuffix(names[0], ".part") {
			t.Errorf("half of it is called %q", names)
		}
		v.shutAfter(piece)
		receiver.start()
		receiver.say(`{"cmd":"get_file","n":%d}`, receiver.file("waiting").N)
		v.awaitShut()
		sys.file.kill()
		v.set(never)
		sys.file.start()
		if f = receiver.file("done"); f.Path != filepath.Join(receiver.downloads, "annual report, draft.pdf") || sumOf(t, f.Path) != sum {
			t.Errorf("what arrived as %s differs", f.Path)
		}
		checkPassed(t, "down", v.total()-before, size)
		until(t, "the file to be off the list", func() bool { return receiver.waiting() == 0 })
		if names := receiver.folder(); len(names) != 1 {
			t.Errorf("left in the folder: %q", names)
		}
		sender.quit()
		receiver.quit()
	})
}

// checkPassed looks whether a transfer broken off twice went on where it stood: what was on the way may go twice.
func checkPassed(t testing.TB, way string, passed, size int64) {
	t.Helper()
	if slack := int64(3 << 19); passed < size || passed > size+slack {
		t.Errorf("%d bytes went %s for a file of %d", passed, way, size)
	}
}

// TestFileOnline passes a file on directly, also one that is called like one that is there.
func TestFileOnline(t *testing.T) {
	t.Parallel()
	forFiles(t, func(t *testing.T, sys *deployment, v *valve) {
		const size = 1<<20 + 77
		path, sum := writeRandom(t, "live.bin", size)
		sender, receiver := newChatter(t, sys, "u00001", 0), newChatter(t, sys, "u00002", 1)
		sender.sees(receiver)
		for i, name := range []string{"live.bin", "live (1).bin"} {
			sender.say(`{"cmd":"send_file","to":"u00002","file":%q}`, path)
			if f := sender.file("sending"); !f.Online {
				t.Errorf("sending %+v to somebody who is there", f)
			}
			receiver.say(`{"cmd":"get_file","n":%d}`, receiver.file("offered").N)
			if f := receiver.file("done"); f.Path != filepath.Join(receiver.downloads, name) || sumOf(t, f.Path) != sum {
				t.Errorf("file %d: what arrived as %s differs", i+1, f.Path)
			}
			sender.file("done")
		}
		if n := receiver.waiting(); n != 0 {
			t.Errorf("%d files wait", n)
		}
		sender.quit()
		receiver.quit()
	})
}

// TestFileStopped ends transfers in every way there is, on either side, and looks that nothing stays.
func TestFileStopped(t *testing.T) {
	t.Parallel()
	forFiles(t, func(t *testing.T, sys *deployment, v *valve) {
		path, sum := writeRandom(t, "stop.bin", 2<<20)
		sender, receiver := newChatter(t, sys, "u00001", 0), newChatter(t, sys, "u00002", 1)
		sender.sees(receiver)
		offer := func(more string) (sent, got *chatFile) {
			t.Helper()
			sender.say(`{"cmd":"send_file","to":"u00002","file":%q%s}`, path, more)
			state := "offered"
			if more != "" {
				state = "waiting"
			}
			return sender.file("sending"), receiver.file(state)
		}
		// Refused, while the sender waits or before.
		_, got := offer("")
		receiver.say(`{"cmd":"refuse_file","n":%d}`, got.N)
		receiver.file("refused")
		sender.file("refused")
		// Cancelled by the sender before, and by either side in the middle.
		sent, _ := offer("")
		sender.say(`{"cmd":"cancel_file","n":%d}`, sent.N)
		sender.file("cancelled")
		for _, who := range []*chatter{sender, receiver} {
			sent, got = offer("")
			v.shutAfter(1 << 20)
			receiver.say(`{"cmd":"get_file","n":%d}`, got.N)
			v.awaitShut()
			n := sent.N
			if who == receiver {
				n = got.N
			}
			who.stop(n)
			v.set(never)
			sender.file("cancelled")
			receiver.file("cancelled")
		}
		// Left with the server, and not wanted.
		_, got = offer(`,"offline":true`)
		receiver.say(`{"cmd":"refuse_file","n":%d}`, got.N)
		receiver.file("refused")
		until(t, "nothing to wait", func() bool { return receiver.waiting() == 0 })
		// Left with the server; fetching is stopped and goes on.
		_, got = offer(`,"offline":true`)
		v.shutAfter(1 << 20)
		receiver.say(`{"cmd":"get_file","n":%d}`, got.N)
		v.awaitShut()
		receiver.stop(got.N)
		v.set(never)
		receiver.file("waiting")
		receiver.say(`{"cmd":"get_file","n":%d}`, got.N)
		if f := receiver.file("done"); sumOf(t, f.Path) != sum {
			t.Error("what arrived differs")
		}
		if names := receiver.folder(); len(names) != 1 || names[0] != "stop.bin" {
			t.Errorf("left in the folder: %q", names)
		}
		receiver.quit()
		sender.in.Close()
		for range sender.lines {
		}
		sender.cmd.Wait() // transfers that were cancelled are no failure, see the events
		sender.cmd = nil
	})
}
