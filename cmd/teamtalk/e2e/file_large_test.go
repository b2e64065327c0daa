//go:build linux

package e2e

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// plainCopy copies a file over a TCP connection of this machine, and syncs the copy to
// the disk. It returns the time that this takes.
func plainCopy(t testing.TB, path string) time.Duration {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	src, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dst.Name())
	defer dst.Close()
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, err = io.Copy(c, src)
			c.Close()
		}
		sent <- err
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.Copy(dst, c); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := dst.Sync(); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// watchMemory measures the memory of a server until the caller calls stop, which returns
// the largest value.
func watchMemory(s *server) (stop func() int64) {
	quit, most := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		top := int64(0)
		for {
			select {
			case <-quit:
				most <- top
				return
			case <-tick.C:
				top = max(top, s.rss())
			}
		}
	}()
	return func() int64 { close(quit); return <-most }
}

// TestFileLarge transfers a file of 1 GiB. The test kills the sender and the receiver
// once each, in the middle. The file arrives unchanged, and the file server uses at most
// 64 MiB more memory than at rest.
func TestFileLarge(t *testing.T) {
	// The test takes a minute and 3 GiB of disk.
	if !fullSize {
		t.Skip("set TEAMTALK_TEST_FULL=1")
	}
	const size = int64(1 << 30)
	program(t)
	v := newValve(t)
	sys := deploySeparate(t, settings{users: 3, files: true, flags: v.flags()})
	v.mu.Lock()
	v.server = sys.fileAddr
	v.mu.Unlock()
	awaitFileServer(t, sys)
	path, sum := writeRandom(t, "large.bin", size)
	plain := plainCopy(t, path)
	idle := sys.file.rss()
	stop := watchMemory(sys.file)

	sender := newChatter(t, sys, "u00001", 0)
	sender.long = true
	began := time.Now()
	v.shutAfter(size / 2)
	sender.enter(`{"cmd":"send_file","to":"u00002","file":%q}`, path)
	v.awaitShut()
	sender.kill()
	v.set(never)
	sender.start()
	sender.file("done")
	up := time.Since(began)

	receiver := newChatter(t, sys, "u00002", 1)
	receiver.long = true
	n := receiver.file("waiting").N
	began = time.Now()
	v.shutAfter(size / 2)
	receiver.enter(`{"cmd":"get_file","n":%d}`, n)
	v.awaitShut()
	receiver.kill()
	v.set(never)
	receiver.start()
	receiver.enter(`{"cmd":"get_file","n":%d}`, receiver.file("waiting").N)
	f := receiver.file("done")
	down := time.Since(began)
	most := stop()
	if sumOf(t, f.Path) != sum {
		t.Errorf("the received file %s differs", f.Path)
	}
	if grown := most - idle; grown > 64<<20 {
		t.Errorf("the file server grew by %d MiB", grown>>20)
	}
	rate := func(d time.Duration) float64 { return float64(size) / d.Seconds() / 1e6 }
	t.Logf("%d MiB: up %.0f MB/s, down %.0f MB/s, each with a process killed and started again; "+
		"plain TCP copy %.0f MB/s; file server %d MiB at rest, at most %d MiB",
		size>>20, rate(up), rate(down), rate(plain), idle>>20, most>>20)
	sender.quit()
	receiver.quit()
}
