package system

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
)

// diskTest is a process with all roles whose data is on a small disk, with two users online.
type diskTest struct {
	*testing.T
	s     *system
	login string
	alice *client.Client
	bob   *client.Client
	offer chan transfer.File // to bob
}

// newDiskTest mounts a disk of 96 MiB, on which 32 MiB are reserved, and starts the process.
func newDiskTest(t *testing.T, dir string) *diskTest {
	if err := syscall.Mount("teamtalk-test", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("a disk of this size cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	s, err := start(t.Context(), testOptions(t, map[string]string{"data_dir": dir,
		"msfs.min_free": "32MiB", "file.min_free": "32MiB"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	d := &diskTest{T: t, s: s, login: "http://" + s.login.http.Addr().String(),
		offer: make(chan transfer.File, 10)}
	accounts := make([]im.Account, 2)
	for i, name := range []string{"alice", "bob"} {
		accounts[i] = im.Account{User: im.User{Name: name},
			Password: im.HashPassword(im.ClientPassword("pw"), "salt"), Salt: "salt"}
	}
	_, err = s.store.CreateUsers(t.Context(), accounts)
	d.check(err)
	d.alice = d.open("alice", nil)
	d.bob = d.open("bob", func(e client.Event) {
		if o, ok := e.(client.FileOffered); ok && o.Ready {
			d.offer <- o.File
		}
	})
	return d
}

func (d *diskTest) check(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *diskTest) open(name string, event func(client.Event)) *client.Client {
	c, err := client.Open(d.Context(), client.Options{Server: d.login, OnEvent: event,
		Credentials: tcp.Credentials{User: name, Password: "pw"}})
	d.check(err)
	d.Cleanup(func() { c.Close() })
	return c
}

// fill leaves 24 MiB of the disk free, and returns what gives the space back.
func (d *diskTest) fill(dir string) (undo func()) {
	var st syscall.Statfs_t
	d.check(syscall.Statfs(dir, &st))
	ballast := filepath.Join(dir, "ballast")
	free := int(st.Bavail) * int(st.Bsize)
	d.check(os.WriteFile(ballast, make([]byte, free-24<<20), 0o600))
	return func() { d.check(os.Remove(ballast)) }
}

// send sends a file to bob, and bob fetches it. It returns whether it went directly.
func (d *diskTest) send(name string, data []byte, online bool) bool {
	d.Helper()
	f, err := d.alice.Files.Offer(d.Context(), d.bob.UserID(), name, int64(len(data)), online)
	d.check(err)
	up, err := d.alice.Files.Send(f, bytes.NewReader(data), transfer.Options{})
	d.check(err)
	down, err := d.bob.Files.Fetch(<-d.offer, d.TempDir(), transfer.Options{})
	d.check(err)
	<-up.Done()
	<-down.Done()
	d.check(errors.Join(up.Err(), down.Err()))
	return f.Online
}

// wantRefused checks the reason of an error.
func (d *diskTest) wantRefused(what string, err error, reason string) {
	d.Helper()
	if im.KindOf(err) != im.Unavailable || err == nil || !strings.Contains(err.Error(), reason) {
		d.Errorf("%s: %v, want an error that says %q", what, err, reason)
	}
}

// metric returns the value of a metric with a label.
func (d *diskTest) metric(name, label string) float64 {
	families, err := d.s.reg.Gather()
	d.check(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestNearlyFullDisk: on a disk with less free space than is reserved, only what needs the disk is
// refused, with the reason. It works again when space returns.
func TestNearlyFullDisk(t *testing.T) {
	dir := t.TempDir()
	d := newDiskTest(t, dir)
	ctx := t.Context()
	kept, err := d.alice.Upload(ctx, "", "kept.jpg", []byte("picture"))
	d.check(err)
	if d.send("before.bin", make([]byte, 100_000), false) {
		t.Error("a file for later went directly")
	}
	undo := d.fill(dir)

	_, err = d.alice.Upload(ctx, "", "more.jpg", []byte("picture"))
	d.wantRefused("an upload", err, "服务器磁盘空间不足")
	_, err = d.alice.Files.Offer(ctx, d.bob.UserID(), "more.bin", 1000, false)
	d.wantRefused("a file for later", err, "disk of the file server is nearly full")
	for _, m := range []struct{ name, label string }{
		{"teamtalk_msfs_uploads_total", "disk"},
		{"teamtalk_file_tasks_refused_total", "NO_ROOM"},
	} {
		if n := d.metric(m.name, m.label); n != 1 {
			t.Errorf("%s %s: %v, want 1", m.name, m.label, n)
		}
	}
	if !d.send("direct.bin", make([]byte, 200_000), true) {
		t.Error("a file for now did not go directly")
	}
	_, err = d.alice.Send(client.Peer{ID: d.bob.UserID()}, "still here")
	d.check(err)
	d.check(d.alice.Flush(ctx))
	rsp, err := http.Get(kept)
	d.check(err)
	if got, err := io.ReadAll(rsp.Body); err != nil || string(got) != "picture" {
		t.Errorf("a stored file: %q, %v", got, err)
	}
	rsp.Body.Close()
	report := d.s.ready.Check(ctx)
	for _, role := range []string{"msfs", "file"} {
		if !report.Ready || !strings.Contains(report.Checks[role], "min_free") {
			t.Errorf("ready %t, check of %s: %s", report.Ready, role, report.Checks[role])
		}
	}

	undo()
	_, err = d.alice.Upload(ctx, "", "again.jpg", []byte("picture"))
	d.check(err)
	d.send("again.bin", make([]byte, 1000), false)
	if report := d.s.ready.Check(ctx); report.Checks["msfs"] != "ok" {
		t.Errorf("with space again: %+v", report)
	}
}
