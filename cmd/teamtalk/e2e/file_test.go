//go:build linux

package e2e

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/proto/pb"
)

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
			t.Parallel()
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
