package client

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// fileServer answers logins to transfers with a function of the test.
type fileServer struct {
	t      testing.TB
	ln     net.Listener
	answer func(n int) (code uint32, then pb.Message) // the n-th login, from 1
	mu     sync.Mutex
	logins int
}

func newFileServer(t testing.TB, answer func(n int) (uint32, pb.Message)) *fileServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fileServer{t: t, ln: ln, answer: answer}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); conns.Wait() })
	return s
}

// serve answers the login, and reads until the client closes the connection.
func (s *fileServer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(r, head); err != nil {
		return
	}
	h := pdu.ParseHeader(head)
	if _, err := r.Discard(int(h.Length) - pdu.HeaderLen); err != nil {
		return
	}
	s.mu.Lock()
	s.logins++
	code, then := s.answer(s.logins)
	s.mu.Unlock()
	out, err := pdu.Append(nil, h.Seq, pb.IMFileLoginRsp_builder{ResultCode: &code,
		TaskId: new("")}.Build())
	if err == nil && then != nil {
		out, err = pdu.Append(out, 0, then)
	}
	if _, last := then.(*pb.IMFilePullDataRsp); err == nil && last {
		out, err = pdu.Append(out, 0, pb.IMFileState_builder{TaskId: new("a task"),
			UserId: new(uint32(bob)), State: pb.ClientFileState_CLIENT_FILE_DONE.Enum()}.Build())
	}
	if err != nil {
		s.t.Error(err)
		return
	}
	if _, err := c.Write(out); err == nil && code == 0 {
		_, _ = io.Copy(io.Discard, r)
	}
}

func (s *fileServer) file() transfer.File {
	return transfer.File{Task: "a task", From: alice, To: bob, Name: "a.bin", Size: 3,
		Addrs: []string{s.ln.Addr().String()}}
}

// TestUploadWaitsForMessageServer: a file server refuses users that are not online. A
// refusal while the Client has no connection to a message server does not end the
// transfer.
func TestUploadWaitsForMessageServer(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	s.Crash()
	waitFor[Disconnected](a, 1)
	var back sync.Once
	f := newFileServer(t, func(n int) (uint32, pb.Message) {
		if a.Online() {
			return 0, pb.IMFileState_builder{TaskId: new("a task"), UserId: new(alice),
				State: pb.ClientFileState_CLIENT_FILE_DONE.Enum()}.Build()
		}
		if n > 3*refusals {
			back.Do(s.Listen)
		}
		return uint32(pb.FileServerError_FILE_SERVER_ERRNO_INVALID_USER_FOR_TASK), nil
	})
	tr, err := a.Files.Send(f.file(), strings.NewReader("abc"), transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Wait(t.Context()); err != nil {
		t.Errorf("after %d logins: %v", f.logins, err)
	}
}

// TestUploadEndsAfterRefusals: a refusal counts when the user was online.
func TestUploadEndsAfterRefusals(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	f := newFileServer(t, func(int) (uint32, pb.Message) {
		return uint32(pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN), nil
	})
	tr, err := a.Files.Send(f.file(), strings.NewReader("abc"), transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "how it ended", im.KindOf(tr.Wait(t.Context())), im.Denied)
	equal(t, "logins", f.logins, refusals)
}

// TestRefuseIsRepeated: a file that is refused is taken off the list although a server lost
// the first request.
func TestRefuseIsRepeated(t *testing.T) {
	s := newServer(t)
	b := open(t, s, "bob", nil)
	f := newFileServer(t, func(int) (uint32, pb.Message) { return 0, nil }).file()
	s.AddFile(bob, pb.OfflineFileInfo_builder{FromUserId: new(f.From), TaskId: new(f.Task),
		FileName: new(f.Name), FileSize: new(uint32(f.Size))}.Build())
	var lost bool // with the server's lock
	s.Filter(func(f clienttest.Frame) bool {
		first := f.Command == pb.CmdFileDelOfflineReq && !lost
		lost = lost || first
		return !first
	})
	if err := b.Files.Refuse(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if list, err := b.Files.Waiting(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("the list has %v, %v", list, err)
	}
}

// TestFetchedFileLeavesTheList: a file that was fetched while servers lost the requests to take
// it off the list is not offered again, and the next look at the list takes it off.
func TestFetchedFileLeavesTheList(t *testing.T) {
	s := newServer(t)
	b := open(t, s, "bob", func(o *Options) { o.SyncTimeout = 100 * time.Millisecond })
	f := newFileServer(t, func(int) (uint32, pb.Message) {
		return 0, pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)), TaskId: new("a task"),
			UserId: new(uint32(alice)), Offset: new(uint32(0)), FileData: []byte("abc")}.Build()
	}).file()
	s.AddFile(bob, pb.OfflineFileInfo_builder{FromUserId: new(f.From), TaskId: new(f.Task),
		FileName: new(f.Name), FileSize: new(uint32(f.Size))}.Build())
	var works bool // with the server's lock
	s.Filter(func(f clienttest.Frame) bool { return works || f.Command != pb.CmdFileDelOfflineReq })
	tr, err := b.Files.Fetch(f, t.TempDir(), transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Filter(func(clienttest.Frame) bool { works = true; return true })
	for _, when := range []string{"on", "off"} {
		if list, err := b.Files.Waiting(t.Context()); err != nil || len(list) > 0 {
			t.Errorf("%s the server's list: %v, %v", when, list, err)
		}
	}
	equal(t, "files on the server's list", len(s.Files(bob)), 0)
}
