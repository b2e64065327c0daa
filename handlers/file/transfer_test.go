package file_test

import (
	"os"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// left returns the names in the spool's folder.
func (h *house) left() []string {
	h.t.Helper()
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestOffline uploads a file with interruptions and a restart of the server, and
// downloads it with an interruption.
func TestOffline(t *testing.T) {
	h := open(t, file.Options{})
	content := random(1, 2<<20+12345)
	id := h.task(1, 2, len(content), offline)
	for _, step := range []struct {
		name string
		run  func(t *testing.T, h *house, id string, content []byte)
	}{
		{"the upload is interrupted", interruptUpload},
		{"the upload resumes", resumeUpload},
		{"the upload resumes after a restart", finishUpload},
		{"the download is interrupted and resumes after a restart", downloadInTwo},
		{"the receiver refuses the file", refuseFile},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, h, id, content) })
	}
}

// interruptUpload uploads the first part. The file cannot be downloaded yet.
func interruptUpload(t *testing.T, h *house, id string, content []byte) {
	p := h.in(1, id, uploader)
	if _, err := p.serve(id, 1, content, 300_000); err != nil {
		t.Fatal(err)
	}
	p.Close()
	early := h.dial()
	early.login(2, id, downloader)
	if rsp := next[*pb.IMFileLoginRsp](early); rsp.GetResultCode() != uint32(
		pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN) {
		t.Errorf("login to an incomplete file: %v", rsp)
	}
	early.closed("login to an incomplete file")
}

// resumeUpload logs in again. The server requests the part that is missing.
func resumeUpload(t *testing.T, h *house, id string, _ []byte) {
	first := next[*pb.IMFilePullDataReq](h.in(1, id, uploader))
	if first.GetOffset() != 327_680 && first.GetOffset() != 294_912 {
		t.Errorf("resumed at %d", first.GetOffset())
	}
}

// finishUpload uploads the rest after a restart.
func finishUpload(t *testing.T, h *house, id string, content []byte) {
	h.stop()
	h.start()
	p := h.in(1, id, uploader)
	first := next[*pb.IMFilePullDataReq](p)
	at := int(first.GetOffset())
	if at < 294_912 {
		t.Errorf("resumed at %d after a restart", at)
	}
	p.send(0, data(id, 1, at, content[at:at+file.Segment]))
	if st, err := p.serve(id, 1, content, 1<<30); st != pb.ClientFileState_CLIENT_FILE_DONE ||
		err != nil {
		t.Fatalf("upload ends with %v, %v", st, err)
	}
	// The file is complete: a sender that missed the message receives it again.
	if m := next[*pb.IMFileState](h.in(1, id,
		uploader)); m.GetState() != pb.ClientFileState_CLIENT_FILE_DONE {
		t.Errorf("second upload: %v", m)
	}
}

// downloadInTwo downloads the file over two connections.
func downloadInTwo(t *testing.T, h *house, id string, content []byte) {
	h.stop()
	h.start()
	p := h.in(2, id, downloader)
	got, err := p.fetch(id, 2, offline, len(content), 0, 1, 500_000)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	p = h.in(2, id, downloader)
	rest, err := p.fetch(id, 2, offline, len(content), len(got), 8, len(content))
	if err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "download", append(got, rest...), content)
	if m := next[*pb.IMFileState](p); m.GetState() != pb.ClientFileState_CLIENT_FILE_DONE ||
		m.GetUserId() != 1 {
		t.Errorf("after the last segment: %v", m)
	}
	if names := h.left(); len(names) != 3 {
		t.Errorf("in the spool: %v", names)
	}
}

// refuseFile refuses the file as its receiver, which deletes it.
func refuseFile(_ *testing.T, h *house, id string, _ []byte) {
	p := h.in(2, id, downloader)
	p.send(5, state(id, 2, pb.ClientFileState_CLIENT_FILE_REFUSE))
	h.until("the file to be deleted", func() bool { return len(h.left()) == 0 })
}

// TestEmptyFile: an empty file is complete at once, for its sender and for its receiver.
func TestEmptyFile(t *testing.T) {
	h := open(t, file.Options{})
	id := h.task(1, 2, 0, offline)
	for _, c := range []struct {
		user uint32
		role pb.ClientFileRole
	}{{1, uploader}, {2, downloader}} {
		if m := next[*pb.IMFileState](h.in(c.user, id,
			c.role)); m.GetState() != pb.ClientFileState_CLIENT_FILE_DONE {
			t.Errorf("%s: %v", c.role, m)
		}
	}
}

// TestCancelUpload: a cancelled upload leaves no file.
func TestCancelUpload(t *testing.T) {
	h := open(t, file.Options{})
	content := random(2, 200_000)
	id := h.task(1, 2, len(content), offline)
	p := h.in(1, id, uploader)
	if _, err := p.serve(id, 1, content, 100_000); err != nil {
		t.Fatal(err)
	}
	p.send(2, state(id, 1, pb.ClientFileState_CLIENT_FILE_CANCEL))
	h.until("the file to be removed", func() bool { return len(h.left()) == 0 })
	p.Close()
	h.until("the task to be removed", func() bool { return h.metric("teamtalk_file_tasks") == 0 })
}

// relay logs both sides of a transfer in.
func (h *house) relay(size int) (id string, from, to *peer) {
	h.t.Helper()
	id = h.task(1, 2, size, online)
	from, to = h.in(1, id, sender), h.in(2, id, receiver)
	if m := next[*pb.IMFileState](to); m.GetState() != pb.ClientFileState_CLIENT_FILE_PEER_READY ||
		m.GetUserId() != 1 {
		h.t.Fatalf("instead of ready: %v", m)
	}
	return id, from, to
}

// TestRelay relays a file between two clients, and leaves neither a task nor a file.
func TestRelay(t *testing.T) {
	for _, window := range []int{1, 16} {
		h := open(t, file.Options{})
		content := random(3, 3<<20+77)
		id, from, to := h.relay(len(content))
		if list := file.Transfers(h.server, 10); len(list) != 1 || !list[0].Online ||
			list[0].From != 1 || list[0].To != 2 || int(list[0].Size) != len(content) ||
			len(file.Transfers(h.server, 0)) != 0 {
			t.Errorf("transfers: %+v", list)
		}
		end := make(chan error, 1)
		go func() {
			st, err := from.serve(id, 1, content, 1<<30)
			if err == nil && st != pb.ClientFileState_CLIENT_FILE_DONE {
				t.Errorf("the sender is told %v", st)
			}
			end <- err
		}()
		got, err := to.fetch(id, 2, online, len(content), 0, window, len(content))
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, "relay", got, content)
		to.send(7, state(id, 2, pb.ClientFileState_CLIENT_FILE_DONE))
		if err := <-end; err != nil {
			t.Error(err)
		}
		if n := h.metric("teamtalk_file_tasks"); n != 0 || len(file.Transfers(h.server, 10)) > 0 {
			t.Errorf("%v tasks are left", n)
		}
		if names := h.left(); len(names) > 0 {
			t.Errorf("in the spool: %v", names)
		}
	}
}

// TestRelayReceiverFirst: the receiver may log in first; both are ready after the second
// login.
func TestRelayReceiverFirst(t *testing.T) {
	h := open(t, file.Options{})
	id := h.task(1, 2, 10, online)
	to := h.in(2, id, receiver)
	h.in(1, id, sender)
	if m := next[*pb.IMFileState](to); m.GetState() != pb.ClientFileState_CLIENT_FILE_PEER_READY {
		t.Errorf("instead of ready: %v", m)
	}
}

// TestRelayLost: when one side disconnects, the other is told.
func TestRelayLost(t *testing.T) {
	h := open(t, file.Options{})
	id, from, to := h.relay(100)
	to.Close()
	if m := next[*pb.IMFileState](from); m.GetState() != pb.ClientFileState_CLIENT_FILE_CANCEL ||
		m.GetUserId() != 2 {
		t.Errorf("instead of cancelled: %v", m)
	}
	p := h.dial()
	p.login(2, id, receiver)
	if rsp := next[*pb.IMFileLoginRsp](p); rsp.GetResultCode() == 0 {
		t.Error("the transfer continues")
	}
	if n := h.metric("teamtalk_file_tasks"); n != 0 {
		t.Errorf("%v tasks are left", n)
	}
}

// TestSecondLogin: a client that logs in again replaces its former connection.
func TestSecondLogin(t *testing.T) {
	h := open(t, file.Options{})
	content := random(4, 100_000)
	id := h.task(1, 2, len(content), offline)
	old := h.in(1, id, uploader)
	next[*pb.IMFilePullDataReq](old)
	p := h.in(1, id, uploader)
	old.closed("the connection before")
	if st, err := p.serve(id, 1, content, 1<<30); st != pb.ClientFileState_CLIENT_FILE_DONE ||
		err != nil {
		t.Errorf("upload ends with %v, %v", st, err)
	}

	id, from, to := h.relay(10)
	again := h.in(1, id, sender)
	from.closed("the sender's connection before")
	if m := next[*pb.IMFileState](to); m.GetState() != pb.ClientFileState_CLIENT_FILE_PEER_READY {
		t.Errorf("instead of ready again: %v", m)
	}
	to.send(3, pullReq(id, 2, online, 0, 10))
	if m := next[*pb.IMFilePullDataReq](again); m.GetOffset() != 0 {
		t.Errorf("pull: %v", m)
	}
}

// TestSecondReceiver: segments in flight to a receiver's former connection do not close
// the sender, and do not arrive on the new connection.
func TestSecondReceiver(t *testing.T) {
	h := open(t, file.Options{})
	content := random(5, 4*file.Segment)
	id, from, to := h.relay(len(content))
	segment := func(p *peer, at int) {
		p.send(1, data(id, 1, at, content[at:at+file.Segment]))
	}
	for at := 0; at < len(content); at += file.Segment {
		to.send(9, pullReq(id, 2, online, at, file.Segment))
		next[*pb.IMFilePullDataReq](from)
	}
	again := h.in(2, id, receiver)
	to.closed("the receiver's connection before")
	next[*pb.IMFileState](again)
	again.send(9, pullReq(id, 2, online, file.Segment, file.Segment))
	next[*pb.IMFilePullDataReq](from)
	for at := 0; at < len(content); at += file.Segment {
		segment(from, at)
	}
	segment(from, file.Segment)
	if m := next[*pb.IMFilePullDataRsp](again); m.GetOffset() != file.Segment ||
		len(m.GetFileData()) != file.Segment {
		t.Errorf("got %d bytes at %d", len(m.GetFileData()), m.GetOffset())
	}
	again.send(9, pullReq(id, 2, online, 0, file.Segment))
	next[*pb.IMFilePullDataReq](from)
	segment(from, 0)
	if m := next[*pb.IMFilePullDataRsp](again); m.GetOffset() != 0 {
		t.Errorf("got bytes at %d", m.GetOffset())
	}
	if n := h.metric("teamtalk_file_violations_total"); n != 0 {
		t.Errorf("%v violations", n)
	}
	segment(from, 0)
	from.closed("a segment nobody asked for")
}

// TestRelayEndedBefore: a side that logs in after the other side has ended a transfer is
// told how. No other client is told, and it is told once.
func TestRelayEndedBefore(t *testing.T) {
	for _, c := range []struct {
		first, second         pb.ClientFileRole
		firstUser, secondUser uint32
		how                   pb.ClientFileState
	}{
		{receiver, sender, 2, 1, pb.ClientFileState_CLIENT_FILE_REFUSE},
		{receiver, sender, 2, 1, pb.ClientFileState_CLIENT_FILE_CANCEL},
		{sender, receiver, 1, 2, pb.ClientFileState_CLIENT_FILE_CANCEL},
	} {
		h := open(t, file.Options{})
		id := h.task(1, 2, 100, online)
		first := h.in(c.firstUser, id, c.first)
		first.send(3, state(id, c.firstUser, c.how))
		h.until("the transfer to be over",
			func() bool { return h.metric("teamtalk_file_ended_total") == 1 })
		refused := func(user uint32, role pb.ClientFileRole) {
			p := h.dial()
			p.login(user, id, role)
			if rsp := next[*pb.IMFileLoginRsp](p); rsp.GetResultCode() != uint32(
				pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN) {
				t.Errorf("%s: %v", role, rsp)
			}
		}
		refused(c.firstUser, c.first)
		second := h.in(c.secondUser, id, c.second)
		if m := next[*pb.IMFileState](second); m.GetState() != c.how ||
			m.GetUserId() != c.firstUser || m.GetTaskId() != id {
			t.Errorf("%s is told %v", c.second, m)
		}
		refused(c.secondUser, c.second)
		if n := h.metric("teamtalk_file_tasks"); n != 0 {
			t.Errorf("%v tasks are left", n)
		}
	}
}

// TestServers checks the answers to message servers.
func TestServers(t *testing.T) {
	h := open(t, file.Options{MaxTasks: 3, MaxUserTasks: 2})
	p := dial(t, h.servers.Addr())
	p.send(0, &pb.IMFileServerIPReq{})
	list := next[*pb.IMFileServerIPRsp](p).GetIpAddrList()
	if len(list) != 1 || list[0].GetIp() != "127.0.0.1" || list[0].GetPort() != 15860 {
		t.Errorf("addresses: %v", list)
	}
	ids := map[string]bool{}
	for i, c := range []struct {
		from uint32
		code pb.FileServerError
	}{{1, 0}, {1, 0}, {1, 2}, {2, 0}, {3, 2}} {
		rsp := p.task(c.from, 9, 10, online)
		if rsp.GetResultCode() != uint32(c.code) || string(rsp.GetAttachData()) != "back" ||
			rsp.HasTaskId() != (c.code == 0) || ids[rsp.GetTaskId()] {
			t.Errorf("task %d: %v", i, rsp)
		}
		if c.code == 0 {
			ids[rsp.GetTaskId()] = true
		}
	}
	if rsp := p.task(1, 9, 1<<32-1, offline); rsp.GetResultCode() != 0 {
		t.Errorf("a file of 4 GiB: %v", rsp)
	}
	for range 3 {
		p.task(1, 9, 1<<32-1, offline)
	}
	if rsp := p.task(1, 9, 1<<32-1, offline); rsp.GetResultCode() != im.FileQuota ||
		string(rsp.GetAttachData()) != "back" {
		t.Errorf("beyond the quota: %v", rsp)
	}
	for id := range ids {
		if strings.ToLower(id) != id || len(id) != 36 {
			t.Errorf("task id %q", id)
		}
	}
}
