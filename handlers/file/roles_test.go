package file_test

import (
	"testing"

	"teamtalk/core/im"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// pair is a task with an id for each side.
type pair struct {
	sender, receiver string
	from, to         uint32
}

// pair creates a task over the link of a message server that tells each side its own id.
func (h *house) pair(from, to uint32, size int, mode pb.TransferFileType) pair {
	h.t.Helper()
	p := dial(h.t, h.servers.Addr())
	defer p.Close()
	p.send(1, pb.IMFileTransferReq_builder{FromUserId: &from, ToUserId: &to,
		FileName: new("a.bin"), FileSize: new(uint32(size)), TransMode: &mode,
		TwoIds: new(true), AttachData: []byte("back")}.Build())
	rsp := next[*pb.IMFileTransferRsp](p)
	ids := pair{rsp.GetSenderTaskId(), rsp.GetTaskId(), from, to}
	for _, id := range []string{ids.sender, ids.receiver} {
		if !im.SealedTask(id, "127.0.0.1", 15860) {
			h.t.Fatalf("id %q does not lead to the server: %v", id, rsp)
		}
	}
	if ids.sender == ids.receiver {
		h.t.Fatal("both sides have the same id")
	}
	return ids
}

// confirm asks the server for a file of a pair of users.
func (h *house) confirm(from, to uint32, task string) *pb.IMFileConfirmRsp {
	h.t.Helper()
	p := dial(h.t, h.servers.Addr())
	defer p.Close()
	p.send(1, pb.IMFileConfirmReq_builder{FromUserId: &from, ToUserId: &to, TaskId: &task,
		AttachData: []byte("back")}.Build())
	rsp := next[*pb.IMFileConfirmRsp](p)
	if string(rsp.GetAttachData()) != "back" {
		h.t.Errorf("answer %v", rsp)
	}
	return rsp
}

// refused fails unless a login is refused with code 4 (wrong user) or 3 (no such task).
func (h *house) refused(what string, user uint32, task string, role pb.ClientFileRole) {
	h.t.Helper()
	p := h.dial()
	p.login(user, task, role)
	if code := next[*pb.IMFileLoginRsp](p).GetResultCode(); code != 3 && code != 4 {
		h.t.Errorf("%s: code %d", what, code)
	}
	p.closed(what)
}

// exchanged tries both roles with the id of the other side, under both users.
func (h *house) exchanged(when string, ids pair, send, receive pb.ClientFileRole) {
	h.t.Helper()
	for _, user := range []uint32{ids.from, ids.to} {
		h.refused(when+": the receiver's id as sender", user, ids.receiver, send)
		h.refused(when+": the sender's id as receiver", user, ids.sender, receive)
	}
}

// TestRolesOffline: the receiver of a file knows the sender's user id and an id of the
// transfer. It can send nothing in the sender's name: not before the upload, during it, when
// it is interrupted, afterwards, or after a restart.
func TestRolesOffline(t *testing.T) {
	for what, to := range map[string]uint32{"two users": 2, "devices of one user": 1} {
		t.Run(what, func(t *testing.T) {
			h := open(t, file.Options{})
			const size = 2*file.Segment + 5
			content := random(1, size)
			ids := h.pair(1, to, size, offline)
			h.exchanged("before", ids, uploader, downloader)
			p := h.in(1, ids.sender, uploader)
			h.exchanged("during", ids, uploader, downloader)
			if _, err := p.serve(ids.sender, 1, content, file.Segment); err != nil {
				t.Fatal(err)
			}
			p.Close()
			h.exchanged("interrupted", ids, uploader, downloader)
			h.stop()
			h.start()
			h.exchanged("restarted", ids, uploader, downloader)
			if h.confirm(1, to, ids.sender).GetConfirmed() {
				t.Error("a part of a file is confirmed")
			}
			p = h.in(1, ids.sender, uploader)
			if st, err := p.serve(ids.sender, 1, content, size); err != nil ||
				st != pb.ClientFileState_CLIENT_FILE_DONE {
				t.Fatalf("state %v, %v", st, err)
			}
			h.exchanged("uploaded", ids, uploader, downloader)
			h.wantConfirmed(ids, size)
			r := h.in(to, ids.receiver, downloader)
			got, err := r.fetch(ids.receiver, to, offline, size, 0, 2, size)
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, "downloaded", got, content)
			if m := next[*pb.IMFileState](r); m.GetTaskId() != ids.receiver {
				t.Errorf("state %v", m)
			}
		})
	}
}

// wantConfirmed checks that a file is confirmed for its pair of users and its sender's id,
// and for no others.
func (h *house) wantConfirmed(ids pair, size uint32) {
	h.t.Helper()
	rsp := h.confirm(ids.from, ids.to, ids.sender)
	if !rsp.GetConfirmed() || rsp.GetTaskId() != ids.receiver || rsp.GetFileName() != "a.bin" ||
		rsp.GetFileSize() != size {
		h.t.Errorf("answer %v", rsp)
	}
	for what, rsp := range map[string]*pb.IMFileConfirmRsp{
		"the receiver's id":  h.confirm(ids.from, ids.to, ids.receiver),
		"another sender":     h.confirm(3, ids.to, ids.sender),
		"another receiver":   h.confirm(ids.from, 3, ids.sender),
		"an unknown id":      h.confirm(ids.from, ids.to, "6bd466b8-85bd-4ec3-94a6-01886865f3e0"),
		"an id that is none": h.confirm(ids.from, ids.to, "../a"),
	} {
		if rsp.GetConfirmed() || rsp.HasTaskId() || rsp.HasFileName() {
			h.t.Errorf("%s: answer %v", what, rsp)
		}
	}
}

// TestRolesOnline: each side of a relay sees its own id only, and cannot take the other's
// role with it.
func TestRolesOnline(t *testing.T) {
	h := open(t, file.Options{})
	const size = 2*file.Segment + 5
	content := random(1, size)
	ids := h.pair(1, 2, size, online)
	h.exchanged("before", ids, sender, receiver)
	s, r := h.in(1, ids.sender, sender), h.in(2, ids.receiver, receiver)
	if m := next[*pb.IMFileState](r); m.GetTaskId() != ids.receiver ||
		m.GetState() != pb.ClientFileState_CLIENT_FILE_PEER_READY {
		t.Errorf("state %v", m)
	}
	h.exchanged("during", ids, sender, receiver)
	served := make(chan error, 1)
	go func() {
		for at := 0; at < size; {
			seq, m, err := s.read()
			pull, ok := m.(*pb.IMFilePullDataReq)
			if err != nil || !ok || pull.GetTaskId() != ids.sender {
				served <- im.Errorf(im.Invalid, "got %v, %v", m, err)
				return
			}
			n := int(pull.GetDataSize())
			at = int(pull.GetOffset())
			if err := s.write(seq, data(ids.sender, 1, at, content[at:at+n])); err != nil {
				served <- err
				return
			}
			at += n
		}
		served <- nil
	}()
	var got []byte
	for len(got) < size {
		n := min(file.Segment, size-len(got))
		r.send(9, pullReq(ids.receiver, 2, online, len(got), n))
		rsp := next[*pb.IMFilePullDataRsp](r)
		if rsp.GetTaskId() != ids.receiver || len(rsp.GetFileData()) != n {
			t.Fatalf("segment of task %q with %d bytes", rsp.GetTaskId(), len(rsp.GetFileData()))
		}
		got = append(got, rsp.GetFileData()...)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "relayed", got, content)
	r.send(3, state(ids.receiver, 2, pb.ClientFileState_CLIENT_FILE_DONE))
	if m := next[*pb.IMFileState](s); m.GetTaskId() != ids.sender ||
		m.GetState() != pb.ClientFileState_CLIENT_FILE_DONE {
		t.Errorf("state %v", m)
	}
	h.exchanged("ended", ids, sender, receiver)
	if h.confirm(1, 2, ids.sender).GetConfirmed() {
		t.Error("a transfer between two clients is confirmed as a file that waits")
	}
}

// TestRolesEndBeforeLogin: the side that logs in late learns of the end under its own id.
func TestRolesEndBeforeLogin(t *testing.T) {
	h := open(t, file.Options{})
	ids := h.pair(1, 2, 100, online)
	s := h.in(1, ids.sender, sender)
	s.send(2, state(ids.sender, 1, pb.ClientFileState_CLIENT_FILE_CANCEL))
	h.until("the transfer is cancelled", func() bool {
		return h.metric("teamtalk_file_ended_total") == 1
	})
	h.refused("the sender again", 1, ids.sender, sender)
	r := h.in(2, ids.receiver, receiver)
	if m := next[*pb.IMFileState](r); m.GetTaskId() != ids.receiver ||
		m.GetState() != pb.ClientFileState_CLIENT_FILE_CANCEL {
		t.Errorf("state %v", m)
	}
}
