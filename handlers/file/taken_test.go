package file_test

import (
	"testing"

	"teamtalk/core/spool"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// takeOff reports, as a message server, that a receiver removed a file from its list, and
// returns after the server has handled it.
func (h *house) takeOff(from, to uint32, task string) {
	h.t.Helper()
	p := dial(h.t, h.servers.Addr())
	defer p.Close()
	p.send(1, pb.IMFileDelOfflineReq_builder{FromUserId: &from, ToUserId: &to,
		TaskId: &task}.Build())
	p.send(2, &pb.IMFileServerIPReq{})
	next[*pb.IMFileServerIPRsp](p)
}

// gone waits until a file is deleted.
func (h *house) gone(task string) {
	h.t.Helper()
	h.until("the file to be removed", func() bool { _, _, ok := h.spool.Lookup(task); return !ok })
}

// TestTakenOff: a file is deleted when its receiver removes it from the list, and not by
// other users.
func TestTakenOff(t *testing.T) {
	h := open(t, file.Options{})
	task, half := h.upload(1, 2), h.task(1, 2, 40_000, offline)
	for _, pair := range [][2]uint32{{2, 1}, {1, 3}, {3, 2}, {1, 0}, {0, 2}, {1, 1}} {
		h.takeOff(pair[0], pair[1], task)
	}
	for _, other := range []string{half, "", "../" + task, "6bd466b8-85bd-4ec3-94a6-01886865f3e0"} {
		h.takeOff(1, 2, other)
	}
	h.pool.Close(t.Context()) // completes the work in progress
	for id, want := range map[string]spool.State{task: spool.Waiting, half: spool.Unfinished} {
		if _, state, ok := h.spool.Lookup(id); !ok || state != want {
			t.Errorf("file %s: there %v, state %d", id, ok, state)
		}
	}
	h.stop()
	h.start()
	h.takeOff(1, 2, task)
	h.gone(task)
	h.takeOff(1, 2, task)
	p := h.dial()
	p.login(2, task, downloader)
	if code := next[*pb.IMFileLoginRsp](p).GetResultCode(); code != uint32(
		pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN) {
		t.Errorf("login to a deleted file: %d", code)
	}
}

// TestTakenOffWhileFetched: the receiver's other device receives the whole file.
func TestTakenOffWhileFetched(t *testing.T) {
	h := open(t, file.Options{})
	task := h.upload(1, 2)
	p := h.in(2, task, downloader)
	begin, err := p.fetch(task, 2, offline, 40_000, 0, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.takeOff(1, 2, task)
	h.until("it to be marked", func() bool {
		_, state,
			_ := h.spool.Lookup(task)
		return state == spool.Fetched
	})
	end, err := p.fetch(task, 2, offline, 40_000, len(begin), 1, 40_000)
	if err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "fetched", append(begin, end...), random(1, 40_000))
	p.Close()
	h.gone(task)
}

// TestTakenOffAndBroken: a device whose connection breaks midway learns that the file is
// deleted, and does not take its part for the whole.
func TestTakenOffAndBroken(t *testing.T) {
	h := open(t, file.Options{})
	task := h.upload(1, 2)
	p := h.in(2, task, downloader)
	if _, err := p.fetch(task, 2, offline, 40_000, 0, 1, 0); err != nil {
		t.Fatal(err)
	}
	h.takeOff(1, 2, task)
	h.until("it to be marked", func() bool {
		_, state,
			_ := h.spool.Lookup(task)
		return state == spool.Fetched
	})
	// A login that replaces the connection continues: it is the same device, or another,
	// and the file exists.
	q := h.in(2, task, downloader)
	p.closed("replaced")
	if _, err := q.fetch(task, 2, offline, 40_000, file.Segment, 1, file.Segment); err != nil {
		t.Fatal(err)
	}
	q.Close()
	h.gone(task)
	r := h.dial()
	r.login(2, task, downloader)
	if code := next[*pb.IMFileLoginRsp](r).GetResultCode(); code != uint32(
		pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN) {
		t.Errorf("login to a deleted file: %d", code)
	}
}

// TestTakenOffAndKilled: when the process ends during a download, the file on the disk
// counts as fetched.
func TestTakenOffAndKilled(t *testing.T) {
	h := open(t, file.Options{})
	task := h.upload(1, 2)
	h.in(2, task, downloader)
	h.takeOff(1, 2, task)
	h.until("it to be marked", func() bool {
		_, state,
			_ := h.spool.Lookup(task)
		return state == spool.Fetched
	})
	h.spool.Close() // no further writes reach the disk, as after kill -9
	h.stop()
	h.start()
	if _, state, ok := h.spool.Lookup(task); !ok || state != spool.Fetched {
		t.Errorf("there %v, state %d", ok, state)
	}
}
