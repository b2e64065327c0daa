package file_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// TestAbuseServerFrames: a malformed frame closes its link. Transfers and other links
// continue.
func TestAbuseServerFrames(t *testing.T) {
	h := open(t, file.Options{})
	good := dial(t, h.servers.Addr())
	bad := append(setLength(pdu.AppendHeader(nil, pb.CmdFileTransferReq, 1), 18), 0xff, 0xff)
	for what, raw := range map[string][]byte{
		"4 GiB":                    {0xff, 0xff, 0xff, 0xff},
		"too long":                 binary.BigEndian.AppendUint32(nil, pdu.MaxClientFrame+1),
		"too short":                {0, 0, 0, 15},
		"HTTP":                     []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"TLS":                      {0x16, 0x03, 0x01, 0x02, 0x00, 0x01},
		"three that do not decode": []byte(strings.Repeat(string(bad), 3)),
	} {
		p := dial(t, h.servers.Addr())
		if _, err := p.Write(raw); err != nil {
			t.Fatal(err)
		}
		p.closed(what)
	}
	id := good.task(1, 2, 100, offline).GetTaskId()
	if st, err := h.in(1, id, uploader).serve(id, 1, make([]byte, 100),
		101); st != pb.ClientFileState_CLIENT_FILE_DONE || err != nil {
		t.Errorf("a transfer after them: %v, %v", st, err)
	}
}

// TestAbuseServerTasks: for tasks with names that are paths, excessive sizes or
// impossible users, a task is created or refused, and the name never becomes a name on
// the disk.
func TestAbuseServerTasks(t *testing.T) {
	h := open(t, file.Options{})
	p := dial(t, h.servers.Addr())
	for _, c := range []struct {
		name     string
		from, to uint32
		size     uint32
		mode     pb.TransferFileType
		made     bool
	}{
		{"../../etc/passwd", 1, 2, 10, offline, true}, {"/etc/passwd", 1, 2, 10, offline, true},
		{"a\x00b", 1, 2, 10, offline, true}, {strings.Repeat("x", 1<<20-200), 1, 2, 10, online,
			true},
		{"a", 1, 2, 1<<32 - 1, offline, true}, {"a", 1<<32 - 1, 1<<32 - 1, 1<<32 - 1, online, true},
		{"a", 1, 2, 10, 99, true},
	} {
		p.send(1, pb.IMFileTransferReq_builder{FromUserId: &c.from, ToUserId: &c.to,
			FileName: &c.name, FileSize: &c.size, TransMode: &c.mode}.Build())
		rsp := next[*pb.IMFileTransferRsp](p)
		if made := rsp.GetResultCode() == 0; made != c.made || made && len(rsp.GetTaskId()) != 36 {
			t.Errorf("%.20q of %d bytes, mode %d: code %d, task %.50q", c.name, c.size, c.mode,
				rsp.GetResultCode(), rsp.GetTaskId())
		}
	}
}

// TestAbuseServerSilence: a link that is silent, or stops in the middle of a frame, is
// closed.
func TestAbuseServerSilence(t *testing.T) {
	h := open(t, file.Options{LinkTimeout: time.Second, LinkHeartbeat: time.Hour})
	silent, half := dial(t, h.servers.Addr()), dial(t, h.servers.Addr())
	if _, err := half.Write(setLength(pdu.AppendHeader(nil, pb.CmdFileTransferReq, 1),
		100)); err != nil {
		t.Fatal(err)
	}
	silent.closed("silence")
	half.closed("half a frame")
	h.until("all to be closed", func() bool { return h.servers.Open() == 0 })
}
