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

// writeRandom writes a file of random bytes. It returns the path and the SHA-256 sum.
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

// sumOf returns the SHA-256 sum of a file.
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

// awaitFileServer waits until both message servers know the address of the file server.
// They are ready before: messages need no file server.
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

// TestFileOffline sends a file to a user that is offline, and fetches it later. The test
// kills the client and the file server during each transfer. The file arrives unchanged,
// and few bytes are transferred twice.
func TestFileOffline(t *testing.T) {
	t.Parallel()
	forFiles(t, func(t *testing.T, sys *deployment, v *valve) {
		const size, piece = 6<<20 + 12345, 2 << 20
		path, sum := writeRandom(t, "annual report, draft.pdf", size)
		sender := newChatter(t, sys, "u00001", 0)
		v.shutAfter(piece)
		sender.enter(`{"cmd":"send_file","to":"u00002","file":%q}`, path)
		if f := sender.file("sending"); f.Online || f.Size != size {
			t.Errorf("sending %+v to a user that is offline", f)
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
		if f.Name != "annual report, draft.pdf" || f.Size != size || f.From != "u00001" ||
			f.Online {
			t.Errorf("waiting %+v", f)
		}
		receiver.enter(`{"cmd":"get_file","n":%d}`, f.N)
		v.awaitShut()
		receiver.kill()
		if names := receiver.folder(); len(names) != 1 || !strings.HasSuffix(names[0], ".part") {
			t.Errorf("files during the download: %q", names)
		}
		v.shutAfter(piece)
		receiver.start()
		receiver.enter(`{"cmd":"get_file","n":%d}`, receiver.file("waiting").N)
		v.awaitShut()
		sys.file.kill()
		v.set(never)
		sys.file.start()
		f = receiver.file("done")
		equal(t, "path", f.Path, filepath.Join(receiver.downloads, "annual report, draft.pdf"))
		if sumOf(t, f.Path) != sum {
			t.Errorf("the received file %s differs", f.Path)
		}
		checkPassed(t, "down", v.total()-before, size)
		until(t, "a list without the file", func() bool { return receiver.waiting() == 0 })
		if names := receiver.folder(); len(names) != 1 {
			t.Errorf("files in the folder: %q", names)
		}
		sender.quit()
		receiver.quit()
	})
}

// checkPassed checks that a transfer continued after each of two interruptions. Bytes in
// flight may be transferred twice.
func checkPassed(t testing.TB, way string, passed, size int64) {
	t.Helper()
	if slack := int64(3 << 19); passed < size || passed > size+slack {
		t.Errorf("%d bytes went %s for a file of %d", passed, way, size)
	}
}

// TestFileOnline sends a file to a user that is online, twice: the second download gets
// another name.
func TestFileOnline(t *testing.T) {
	t.Parallel()
	forFiles(t, func(t *testing.T, sys *deployment, v *valve) {
		const size = 1<<20 + 77
		path, sum := writeRandom(t, "live.bin", size)
		sender, receiver := newChatter(t, sys, "u00001", 0), newChatter(t, sys, "u00002", 1)
		sender.sees(receiver)
		for i, name := range []string{"live.bin", "live (1).bin"} {
			sender.enter(`{"cmd":"send_file","to":"u00002","file":%q}`, path)
			if f := sender.file("sending"); !f.Online {
				t.Errorf("sending %+v to a user that is online", f)
			}
			receiver.enter(`{"cmd":"get_file","n":%d}`, receiver.file("offered").N)
			f := receiver.file("done")
			equal(t, "path", f.Path, filepath.Join(receiver.downloads, name))
			if sumOf(t, f.Path) != sum {
				t.Errorf("file %d: the received file %s differs", i+1, f.Path)
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

// TestFileStopped ends transfers in every way, on either side. None of them leaves a
// file.
func TestFileStopped(t *testing.T) {
	t.Parallel()
	forFiles(t, func(t *testing.T, sys *deployment, v *valve) {
		path, sum := writeRandom(t, "stop.bin", 2<<20)
		sender, receiver := newChatter(t, sys, "u00001", 0), newChatter(t, sys, "u00002", 1)
		sender.sees(receiver)
		s := &stopping{t: t, path: path, v: v, sender: sender, receiver: receiver}
		s.refuse("")
		s.cancelOffer()
		s.cancelHalf(sender)
		s.cancelHalf(receiver)
		s.refuse(`,"offline":true`)
		until(t, "a list without files", func() bool { return receiver.waiting() == 0 })
		if f := s.stopDownload(); sumOf(t, f.Path) != sum {
			t.Error("the received file differs")
		}
		equal(t, "files in the folder", receiver.folder(), []string{"stop.bin"})
		receiver.quit()
		sender.in.Close()
		for range sender.lines {
		}
		sender.cmd.Wait() // its exit code tells of the cancelled transfers, which the events show
		sender.cmd = nil
	})
}

// stopping has the clients of TestFileStopped.
type stopping struct {
	t                *testing.T
	path             string
	v                *valve
	sender, receiver *chatter
}

// offer sends the file: more makes it wait at the server. It returns the file of each
// side.
func (s *stopping) offer(more string) (sent, got *chatFile) {
	s.t.Helper()
	s.sender.enter(`{"cmd":"send_file","to":"u00002","file":%q%s}`, s.path, more)
	state := "offered"
	if more != "" {
		state = "waiting"
	}
	return s.sender.file("sending"), s.receiver.file(state)
}

// refuse lets the receiver refuse a file. The sender of a direct transfer is notified.
func (s *stopping) refuse(more string) {
	s.t.Helper()
	_, got := s.offer(more)
	s.receiver.enter(`{"cmd":"refuse_file","n":%d}`, got.N)
	s.receiver.file("refused")
	if more == "" {
		s.sender.file("refused")
	}
}

// cancelOffer lets the sender cancel before the receiver has accepted.
func (s *stopping) cancelOffer() {
	s.t.Helper()
	sent, _ := s.offer("")
	s.sender.enter(`{"cmd":"cancel_file","n":%d}`, sent.N)
	s.sender.file("cancelled")
}

// cancelHalf lets one side cancel in the middle of the transfer.
func (s *stopping) cancelHalf(by *chatter) {
	s.t.Helper()
	sent, got := s.offer("")
	s.v.shutAfter(1 << 20)
	s.receiver.enter(`{"cmd":"get_file","n":%d}`, got.N)
	s.v.awaitShut()
	n := sent.N
	if by == s.receiver {
		n = got.N
	}
	by.stop(n)
	s.v.set(never)
	s.sender.file("cancelled")
	s.receiver.file("cancelled")
}

// stopDownload lets the receiver stop the download of a waiting file, and then continue
// it.
func (s *stopping) stopDownload() *chatFile {
	s.t.Helper()
	_, got := s.offer(`,"offline":true`)
	s.v.shutAfter(1 << 20)
	s.receiver.enter(`{"cmd":"get_file","n":%d}`, got.N)
	s.v.awaitShut()
	s.receiver.stop(got.N)
	s.v.set(never)
	s.receiver.file("waiting")
	s.receiver.enter(`{"cmd":"get_file","n":%d}`, got.N)
	return s.receiver.file("done")
}
