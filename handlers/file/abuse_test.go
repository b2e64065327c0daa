package file_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// TestAbuseLogin tries logins to tasks and roles that are not open to the client.
func TestAbuseLogin(t *testing.T) {
	h := open(t, file.Options{})
	on, off := h.task(1, 2, 100, online), h.task(1, 2, 100, offline)
	secret := filepath.Join(filepath.Dir(h.dir), "secret.data")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	const unknown, wrong = pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN,
		pb.FileServerError_FILE_SERVER_ERRNO_INVALID_USER_FOR_TASK
	for _, c := range []struct {
		what string
		user uint32
		task string
		role pb.ClientFileRole
		code pb.FileServerError
	}{
		{"somebody else", 3, on, sender, wrong},
		{"somebody else", 3, on, receiver, wrong},
		{"somebody else", 3, off, uploader, wrong},
		{"the receiver as sender", 2, on, sender, wrong},
		{"the sender as receiver", 1, on, receiver, wrong},
		{"the receiver uploads", 2, off, uploader, wrong},
		// the upload is not complete, so that no role downloads
		{"the sender downloads", 1, off, downloader, unknown},
		{"a role of the other mode", 1, on, uploader, wrong},
		{"a role of the other mode", 1, off, sender, wrong},
		{"no such task", 1, "6bd466b8-85bd-4ec3-94a6-01886865f3e0", uploader, unknown},
		{"no id", 1, "", uploader, unknown},
		{"a path", 1, "../secret", downloader, unknown},
		{"a path", 1, "../../../../../../../../etc/passwd", downloader, unknown},
		{"a path behind an id", 1, off + "/../x", uploader, unknown},
		{"a part's name", 1, off + ".part", uploader, unknown},
		{"an id in upper case", 1, strings.ToUpper(off), uploader, unknown},
		{"an id with a zero", 1, off + "\x00", uploader, unknown},
		{"a long id", 1, strings.Repeat("a", 30_000), uploader, unknown},
	} {
		p := h.dial()
		p.login(c.user, c.task, c.role)
		if rsp := next[*pb.IMFileLoginRsp](p); rsp.GetResultCode() != uint32(c.code) {
			t.Errorf("%s: code %d, want %d", c.what, rsp.GetResultCode(), c.code)
		}
		p.closed(c.what)
	}
	if names := h.left(); len(names) != 1 {
		t.Errorf("in the spool: %v", names)
	}
}

// TestAbuseBeforeLogin: before a login the server answers heartbeats only.
func TestAbuseBeforeLogin(t *testing.T) {
	h := open(t, file.Options{})
	id := h.task(1, 2, 100, offline)
	p := h.dial()
	p.send(1, pullReq(id, 2, offline, 0, 100))
	p.send(2, data(id, 1, 0, make([]byte, 100)))
	p.send(3, state(id, 1, pb.ClientFileState_CLIENT_FILE_CANCEL))
	p.garbage(pb.CmdFileTransferReq, []byte{8, 1}) // a command of servers
	p.garbage(pb.CmdFileServerIPReq, nil)
	p.send(5, &pb.IMHeartBeat{})
	if seq, m, err := p.read(); err != nil || m.Command() != pb.CmdHeartBeat || seq != 5 {
		t.Errorf("got %v, %v", m, err)
	}
	if names := h.left(); len(names) != 1 {
		t.Errorf("in the spool: %v", names)
	}
}

// TestAbuseUpload: only the requested bytes are accepted, in the requested order.
func TestAbuseUpload(t *testing.T) {
	const size = 3*file.Segment + 10
	content := random(5, size)
	for what, send := range map[string]func(p *peer, id string){
		"more than asked": func(p *peer, id string) {
			p.send(1, data(id, 1, 0, content[:file.Segment+1]))
		},
		"less than asked": func(p *peer, id string) {
			p.send(1, data(id, 1, 0, content[:file.Segment-1]))
		},
		"nothing": func(p *peer, id string) { p.send(1, data(id, 1, 0, []byte{})) },
		"at another offset": func(p *peer, id string) {
			p.send(1, data(id, 1, file.Segment, content[:file.Segment]))
		},
		"at the end of all": func(p *peer, id string) {
			p.send(1, data(id, 1, 1<<32-1, content[:file.Segment]))
		},
		"of another task": func(p *peer, id string) {
			p.send(1, data(strings.Replace(id, "-", "+", 1), 1, 0, content[:file.Segment]))
		},
		"an error": func(p *peer, id string) {
			m := data(id, 1, 0, content[:file.Segment])
			m.SetResultCode(8)
			p.send(1, m)
		},
		"more after the answer": func(p *peer, id string) {
			p.send(1, data(id, 1, 0, content[:file.Segment]))
			p.send(1, data(id, 1, file.Segment, content[:10]))
		},
		"a pull by the uploader": nil,
	} {
		t.Run(what, func(t *testing.T) {
			h := open(t, file.Options{})
			id := h.task(1, 2, size, offline)
			p := h.in(1, id, uploader)
			next[*pb.IMFilePullDataReq](p)
			if send == nil {
				wantPullRefused(t, p, id)
			} else {
				send(p, id)
				wantUploaderClosed(t, h, p)
			}
			wantCompleted(t, h, id, content)
		})
	}
}

// wantPullRefused checks that the uploader of a file may not download it.
func wantPullRefused(t *testing.T, p *peer, id string) {
	t.Helper()
	p.send(3, pullReq(id, 1, offline, 0, 100))
	if rsp := next[*pb.IMFilePullDataRsp](p); rsp.GetResultCode() != uint32(
		pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_ILLIEAGE_USER) {
		t.Errorf("answer %v", rsp)
	}
}

// wantUploaderClosed checks that the connection is closed and counted as a violation.
func wantUploaderClosed(t *testing.T, h *house, p *peer) {
	t.Helper()
	// A pull for the accepted segment may precede the close.
	for {
		_, m, err := p.read()
		if err != nil {
			break
		}
		if m.Command() != pb.CmdFilePullDataReq {
			t.Fatalf("got %s", m.Command())
		}
	}
	if n := h.metric("teamtalk_file_violations_total"); n != 1 {
		t.Errorf("%v violations", n)
	}
}

// wantCompleted checks that the upload can still be completed, and the file downloaded.
func wantCompleted(t *testing.T, h *house, id string, content []byte) {
	t.Helper()
	size := len(content)
	st, err := h.in(1, id, uploader).serve(id, 1, content, size+1)
	if st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		t.Fatalf("upload ends with %v, %v", st, err)
	}
	got, err := h.in(2, id, downloader).fetch(id, 2, offline, size, 0, 4, size)
	if err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "download", got, content)
}

// TestAbuseRelay: only the bytes that the receiver requested are relayed.
func TestAbuseRelay(t *testing.T) {
	content := make([]byte, file.Segment)
	for what, c := range map[string]struct {
		pull bool
		send func(p *peer, id string)
	}{
		"without a pull": {false, func(p *peer, id string) {
			p.send(1,
				data(id, 1, 0, content[:10]))
		}},
		"more than asked": {true, func(p *peer, id string) {
			p.send(1,
				data(id, 1, 0, content[:101]))
		}},
		"at another offset": {true, func(p *peer, id string) {
			p.send(1,
				data(id, 1, 1, content[:100]))
		}},
		"of another task": {true, func(p *peer, id string) {
			p.send(1,
				data("x", 1, 0, content[:100]))
		}},
		"nothing": {true, func(p *peer, id string) { p.send(1, data(id, 1, 0, []byte{})) }},
		"twice": {true, func(p *peer, id string) {
			p.send(1, data(id, 1, 0, content[:100]))
			p.send(1, data(id, 1, 0, content[:100]))
		}},
		"what does not decode": {true, func(p *peer, _ string) {
			p.garbage(pb.CmdFilePullDataRsp,
				[]byte{0xff, 0xff})
		}},
		"without its fields": {true, func(p *peer, _ string) {
			p.garbage(pb.CmdFilePullDataRsp,
				[]byte{8, 0})
		}},
		"a frame that is large": {true, func(p *peer, id string) {
			p.send(1,
				data(id, 1, 0, make([]byte, file.MaxFrame)))
		}},
	} {
		t.Run(what, func(t *testing.T) {
			h := open(t, file.Options{})
			id, from, to := h.relay(1000)
			if c.pull {
				to.send(2, pullReq(id, 2, online, 0, 100))
				next[*pb.IMFilePullDataReq](from)
			}
			c.send(from, id)
			from.closed(what)
			m := next[pb.Message](to)
			if d, ok := m.(*pb.IMFilePullDataRsp); ok && len(d.GetFileData()) == 100 {
				m = next[pb.Message](to) // the first of two messages
			}
			if st, ok := m.(*pb.IMFileState); !ok ||
				st.GetState() != pb.ClientFileState_CLIENT_FILE_CANCEL {
				t.Errorf("the receiver gets %v", m)
			}
		})
	}
}

// garbage sends a frame with an arbitrary body.
func (p *peer) garbage(cmd pb.Command, body []byte) {
	p.t.Helper()
	frame := append(pdu.AppendHeader(nil, cmd, 1), body...)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)))
	if _, err := p.Write(frame); err != nil {
		p.t.Fatal(err)
	}
}

// TestAbusePull: an impossible pull is refused or closes the receiver's connection.
func TestAbusePull(t *testing.T) {
	for _, mode := range []pb.TransferFileType{online, offline} {
		h := open(t, file.Options{})
		var id string
		var from, to *peer
		if mode == online {
			id, from, to = h.relay(100_000)
		} else {
			id = h.task(1, 2, 100_000, offline)
			if _, err := h.in(1, id, uploader).serve(id, 1, make([]byte, 100_000),
				100_001); err != nil {
				t.Fatal(err)
			}
			to = h.in(2, id, downloader)
		}
		for _, c := range []struct {
			what string
			m    *pb.IMFilePullDataReq
			code pb.FileServerError
		}{
			{"of another task", pullReq("x", 2, mode, 0, 10),
				pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_WITH_INVALID_TASK_ID},
			{"as another user", pullReq(id, 1, mode, 0, 10),
				pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_ILLIEAGE_USER},
			{"behind the end", pullReq(id, 2, mode, 100_000, 10),
				pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_SEEK_OFFSET_ERROR},
			{"far behind the end", pullReq(id, 2, mode, 1<<32-1, 1<<32-1),
				pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_SEEK_OFFSET_ERROR},
			{"nothing", pullReq(id, 2, mode, 0, 0),
				pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_SEEK_OFFSET_ERROR},
		} {
			to.send(4, c.m)
			if rsp := next[*pb.IMFilePullDataRsp](to); rsp.GetResultCode() != uint32(c.code) ||
				len(rsp.GetFileData()) > 0 {
				t.Errorf("%s %s: code %d, %d bytes", mode, c.what, rsp.GetResultCode(),
					len(rsp.GetFileData()))
			}
		}
		if mode == online { // the sender does not answer, and the number of pulls is bounded
			for _, c := range []struct{ at, asked, want int }{{0, 1<<32 - 1, file.Segment},
				{99_000, file.Segment, 1_000}} {
				to.send(4, pullReq(id, 2, mode, c.at, c.asked))
				if m := next[*pb.IMFilePullDataReq](from); int(m.GetOffset()) != c.at ||
					int(m.GetDataSize()) != c.want {
					t.Errorf("asked for %d at %d, the sender for %v", c.asked, c.at, m)
				}
			}
			for range 17 {
				to.send(4, pullReq(id, 2, mode, 0, 10))
			}
			to.closed("too many pulls")
			continue
		}
		to.send(4, pullReq(id, 2, mode, 0, 1<<32-1))
		if rsp := next[*pb.IMFilePullDataRsp](to); len(rsp.GetFileData()) != file.Segment {
			t.Errorf("asked for 4 GiB at once: %d bytes", len(rsp.GetFileData()))
		}
	}
}

// TestAbuseStates: states that a role may not report are ignored.
func TestAbuseStates(t *testing.T) {
	h := open(t, file.Options{})
	id, from, to := h.relay(100)
	from.send(2, state(id, 1, pb.ClientFileState_CLIENT_FILE_DONE))
	from.send(2, state(id, 1, pb.ClientFileState_CLIENT_FILE_REFUSE))
	from.send(2, state(id, 1, pb.ClientFileState_CLIENT_FILE_PEER_READY))
	from.send(2, state("x", 1, pb.ClientFileState_CLIENT_FILE_CANCEL))
	from.send(3, &pb.IMHeartBeat{})
	next[*pb.IMHeartBeat](from)
	to.send(3, &pb.IMHeartBeat{})
	next[*pb.IMHeartBeat](to)
	to.send(2, state(id, 77, pb.ClientFileState_CLIENT_FILE_REFUSE))
	if m := next[*pb.IMFileState](from); m.GetState() != pb.ClientFileState_CLIENT_FILE_REFUSE ||
		m.GetUserId() != 2 {
		t.Errorf("the sender is told %v", m)
	}

	// The sender of a complete file can no longer cancel it.
	id = h.task(1, 2, 10, offline)
	up := h.in(1, id, uploader)
	if _, err := up.serve(id, 1, make([]byte, 10), 11); err != nil {
		t.Fatal(err)
	}
	up.send(2, state(id, 1, pb.ClientFileState_CLIENT_FILE_CANCEL))
	up.send(3, &pb.IMHeartBeat{})
	next[*pb.IMHeartBeat](up)
	if got, err := h.in(2, id, downloader).fetch(id, 2, offline, 10, 0, 1, 10); len(got) != 10 ||
		err != nil {
		t.Errorf("after a late cancel: %d bytes, %v", len(got), err)
	}
}

// TestAbuseFrames: frames with impossible lengths or bodies close the connection.
func TestAbuseFrames(t *testing.T) {
	h := open(t, file.Options{})
	for what, raw := range map[string][]byte{
		"4 GiB":     {0xff, 0xff, 0xff, 0xff},
		"too long":  binary.BigEndian.AppendUint32(nil, file.MaxFrame+1),
		"too short": {0, 0, 0, 15},
		"HTTP":      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"three bad": []byte(strings.Repeat(string(append(setLength(pdu.AppendHeader(nil,
			pb.CmdFileLoginReq, 1), 18), 0xff, 0xff)), 3)),
		"TLS, hello": {0x16, 0x03, 0x01, 0x02, 0x00, 0x01},
	} {
		p := h.dial()
		if _, err := p.Write(raw); err != nil {
			t.Fatal(err)
		}
		p.closed(what)
	}
}

func setLength(frame []byte, n uint32) []byte {
	binary.BigEndian.PutUint32(frame, n)
	return frame
}

// TestAbuseNoLogin: the server closes a client that does not log in, and one that sends
// its login a byte at a time.
func TestAbuseNoLogin(t *testing.T) {
	h := open(t, file.Options{LoginDeadline: 100 * time.Millisecond})
	idle := make([]*peer, 50)
	for i := range idle {
		idle[i] = h.dial()
	}
	slow := h.dial()
	var wg sync.WaitGroup
	wg.Go(func() { // a frame that never ends
		for _, b := range setLength(pdu.AppendHeader(nil, pb.CmdFileLoginReq, 1), 30_000) {
			if _, err := slow.Write([]byte{b}); err != nil {
				return
			}
		}
	})
	for _, p := range append(idle, slow) {
		p.closed("silence")
	}
	wg.Wait()
	h.until("all to be closed", func() bool { return h.clients.Open() == 0 })
}

// TestAbuseSilence: the server closes an uploader that sends heartbeats in place of the
// segment that it owes.
func TestAbuseSilence(t *testing.T) {
	h := open(t, file.Options{IdleTimeout: 500 * time.Millisecond})
	id := h.task(1, 2, 1<<20, offline)
	owes := h.in(1, id, uploader)
	next[*pb.IMFilePullDataReq](owes)
	for owes.write(1, &pb.IMHeartBeat{}) == nil {
		if _, _, err := owes.read(); err != nil {
			break
		}
		// The client sends heartbeats, and does not flood the server.
		time.Sleep(100 * time.Millisecond)
	}
	h.until("it to be closed", func() bool { return h.clients.Open() == 0 })
}

// TestSlowDisk: while the disk hangs, the loops answer other clients.
func TestSlowDisk(t *testing.T) {
	h := open(t, file.Options{})
	id := h.task(1, 2, 100, offline)
	h.stop()
	g := &gate{hold: make(chan struct{})}
	h.gate = g
	h.start()
	p := h.in(1, id, uploader) // the login is answered before the disk is read
	for seq := range uint16(100) {
		p.send(seq, &pb.IMHeartBeat{})
		next[*pb.IMHeartBeat](p)
	}
	close(g.hold)
	if st, err := p.serve(id, 1, make([]byte, 100),
		101); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		t.Errorf("upload ends with %v, %v", st, err)
	}
}
