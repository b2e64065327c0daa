package msg

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/transfer"
	"teamtalk/proto/pb"
)

const (
	onlineMode  = pb.TransferFileType_FILE_TYPE_ONLINE
	offlineMode = pb.TransferFileType_FILE_TYPE_OFFLINE
)

// fileStand is a file server: a link, and answers to requests for transfers.
type fileStand struct {
	linkStand
	link   *transfer.Link
	s      *session.Link
	ip     string
	down   bool
	code   uint32 // result of each request
	err    error  // of each request, instead
	asked  []*pb.IMFileTransferReq
	marked bool // ids lead to the server
	// ours is set for a server that confirms files: those that were uploaded, by the sender's
	// id.
	ours     bool
	uploaded map[string]*pb.IMFileConfirmReq
}

// newFileServer adds a file server to a world, which has not said where it is.
func (w *world) newFileServer(ip string) *fileStand {
	w.t.Helper()
	f := &fileStand{ip: ip, link: w.h.FileLink(), marked: true}
	w.h.ConnectFile(f.link, f)
	f.s = session.NewLink(session.NextID(), "file", f)
	if err := f.link.Open(f.s); err != nil {
		w.t.Fatal(err)
	}
	got := f.take()
	if len(got) != 1 || !got[0].m.(*pb.IMFileServerIPReq).GetConfirms() {
		w.t.Fatalf("file server was asked %v", got)
	}
	return f
}

// fileServer adds a file server to a world, which has said where it is.
func (w *world) fileServer(ip string) *fileStand {
	w.t.Helper()
	f := w.newFileServer(ip)
	f.link.Message(f.s, 0, pb.IMFileServerIPRsp_builder{IpAddrList: f.at()}.Build())
	return f
}

// ourFileServer adds a file server that confirms files.
func (w *world) ourFileServer(ip string) *fileStand {
	w.t.Helper()
	f := w.newFileServer(ip)
	f.ours, f.uploaded = true, map[string]*pb.IMFileConfirmReq{}
	f.link.Message(f.s, 0, pb.IMFileServerIPRsp_builder{IpAddrList: f.at(),
		Confirms: proto.Bool(true)}.Build())
	return f
}

// senderTask is the sender's id of the n-th task: that of the receiver with another digit.
func (f *fileStand) senderTask(n int) string {
	if !f.ours {
		return f.task(n)
	}
	return "7" + f.task(n)[1:]
}

// upload makes the n-th task a whole file.
func (f *fileStand) upload(n int, from, to uint32) {
	f.uploaded[f.senderTask(n)] = pb.IMFileConfirmReq_builder{FromUserId: &from, ToUserId: &to,
		TaskId: proto.String(f.task(n))}.Build()
}

// confirm answers as a file server does.
func (f *fileStand) confirm(m *pb.IMFileConfirmReq) *pb.IMFileConfirmRsp {
	have := f.uploaded[m.GetTaskId()]
	if have == nil || have.GetFromUserId() != m.GetFromUserId() ||
		have.GetToUserId() != m.GetToUserId() {
		return pb.IMFileConfirmRsp_builder{Confirmed: proto.Bool(false)}.Build()
	}
	return pb.IMFileConfirmRsp_builder{Confirmed: proto.Bool(true),
		TaskId: proto.String(have.GetTaskId()), FileName: proto.String("../report.pdf"),
		FileSize: proto.Uint32(1 << 31)}.Build()
}

func (f *fileStand) at() []*pb.IpAddr {
	return []*pb.IpAddr{pb.IpAddr_builder{Ip: proto.String(f.ip), Port: proto.Uint32(8600)}.Build()}
}

// task is the n-th id that this server makes.
func (f *fileStand) task(n int) string {
	id := fmt.Sprintf("6bd466b8-85bd-4ec3-94a6-%012d", n)
	if f.marked {
		id = im.MarkTask(id, im.ServerMark(f.ip, 8600))
	}
	return id
}

func (f *fileStand) Up() bool { return !f.down }

func (f *fileStand) Send(_ uint64, seq uint16, m pb.Message) error { return f.SendMessage(seq, m) }

func (f *fileStand) Call(l *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	if m, ok := req.(*pb.IMFileConfirmReq); ok {
		if f.err != nil {
			l.PostResult(done, nil, f.err)
		} else {
			l.PostResult(done, f.confirm(m), nil)
		}
		return
	}
	m := req.(*pb.IMFileTransferReq)
	f.asked = append(f.asked, m)
	if f.err != nil {
		l.PostResult(done, nil, f.err)
		return
	}
	rsp := pb.IMFileTransferRsp_builder{ResultCode: &f.code,
		FromUserId: proto.Uint32(m.GetFromUserId()),
		ToUserId:   proto.Uint32(m.GetToUserId())}.Build()
	if f.code == 0 {
		rsp.SetTaskId(f.task(len(f.asked)))
		if m.GetTwoIds() {
			rsp.SetSenderTaskId(f.senderTask(len(f.asked)))
		}
	}
	l.PostResult(done, rsp, nil)
}

// fileReq asks for a transfer, under a wrong name.
func fileReq(to uint32, mode pb.TransferFileType) *pb.IMFileReq {
	return pb.IMFileReq_builder{FromUserId: proto.Uint32(99), ToUserId: &to,
		FileName: proto.String("report.pdf"), FileSize: proto.Uint32(1 << 31),
		TransMode: mode.Enum()}.Build()
}

func fileRsp(code, from, to uint32, task string, at []*pb.IpAddr,
	mode pb.TransferFileType) *pb.IMFileRsp {
	return pb.IMFileRsp_builder{ResultCode: &code, FromUserId: &from, ToUserId: &to,
		FileName: proto.String("report.pdf"), TaskId: &task, IpAddrList: at,
		TransMode: mode.Enum()}.Build()
}

func fileNotify(from, to uint32, task string, at []*pb.IpAddr, mode pb.TransferFileType,
	ready uint32) *pb.IMFileNotify {
	return pb.IMFileNotify_builder{FromUserId: &from, ToUserId: &to,
		FileName: proto.String("report.pdf"), FileSize: proto.Uint32(1 << 31), TaskId: &task,
		IpAddrList: at, TransMode: mode.Enum(), OfflineReady: &ready}.Build()
}

// wantRouted checks what a route server got.
func (w *world) wantRouted(want ...pb.Message) {
	w.t.Helper()
	got := w.route.take()
	if len(got) != len(want) {
		w.t.Fatalf("route server got %v, want %v", got, want)
	}
	for i := range want {
		same(w.t, got[i].m, want[i])
	}
}

// transferCase is the place of a receiver, the wish of a sender, and the mode that the
// clients are told.
type transferCase struct {
	name     string
	want     pb.TransferFileType
	peer     pb.ClientType // of the receiver's device here; 0: none
	away     bool          // the receiver is online elsewhere
	mode     pb.TransferFileType
	question bool // a route server is asked
}

// TestTransfer: the clients are told what fits the place of the receiver and the wish of
// the sender.
func TestTransfer(t *testing.T) {
	for _, tc := range []transferCase{
		{"pc here", onlineMode, mac, false, onlineMode, false},
		{"pc here, to be kept", offlineMode, win, false, offlineMode, false},
		{"pc elsewhere", onlineMode, 0, true, onlineMode, true},
		{"pc elsewhere, phone here", onlineMode, ios, true, onlineMode, true},
		{"phone here", onlineMode, android, false, offlineMode, true},
		{"nowhere", onlineMode, 0, false, offlineMode, true},
		{"nowhere, to be kept", offlineMode, 0, false, offlineMode, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) { tc.run(t, w, w.fileServer("10.0.0.1")) })
			inWorld(t, Options{}, func(w *world) { tc.run(t, w, w.ourFileServer("10.0.0.1")) })
		})
	}
}

func (tc *transferCase) run(t *testing.T, w *world, f *fileStand) {
	sender := w.user(0, 1, win)
	var peer *device
	if tc.peer != 0 {
		peer = w.user(1, 2, tc.peer)
	}
	w.route.take()
	w.route.elsewhere, w.route.questions = map[uint32]bool{2: tc.away}, nil
	sender.got()
	sender.send(7, fileReq(2, tc.want))
	got := sender.want(pb.CmdFileRsp)
	same(t, got[0].m, fileRsp(0, 1, 2, f.senderTask(1), f.at(), tc.mode))
	if got[0].seq != 7 {
		t.Errorf("answer with seq %d", got[0].seq)
	}
	notify := fileNotify(1, 2, f.task(1), f.at(), tc.mode, 0)
	w.wantRouted(notify)
	switch {
	case peer == nil:
	case tc.peer.IsMobile():
		peer.want()
	default:
		same(t, peer.want(pb.CmdFileNotify)[0].m, notify)
	}
	want := pb.IMFileTransferReq_builder{FromUserId: proto.Uint32(1),
		ToUserId: proto.Uint32(2), FileName: proto.String("report.pdf"),
		FileSize: proto.Uint32(1 << 31), TransMode: tc.mode.Enum()}.Build()
	if f.ours {
		want.SetTwoIds(true)
	}
	same(t, f.asked[0], want)
	if (len(w.route.questions) == 1) != tc.question {
		t.Fatalf("route server was asked %v", w.route.questions)
	}
	if tc.question {
		same(t, w.route.questions[0],
			pb.IMUsersStatReq_builder{UserId: proto.Uint32(1),
				UserIdList: []uint32{2}}.Build())
	}
	if n := clientOf(sender.s).passing.Waiting(); n != 0 {
		t.Errorf("%d queries are left open", n)
	}
}

// TestTransferToOneself: a user has one pc, so the file has to wait for the next.
func TestTransferToOneself(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := w.fileServer("10.0.0.1")
		d := w.user(0, 1, win)
		d.send(2, fileReq(1, onlineMode))
		got := d.want(pb.CmdFileRsp, pb.CmdFileNotify)
		same(t, got[0].m, fileRsp(0, 1, 1, f.task(1), f.at(), offlineMode))
	})
}

// TestTransferRefused: whatever is wrong, the client gets an answer that says so, and
// nobody else hears of it.
func TestTransferRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		code   uint32
		change func(w *world, f *fileStand, m *pb.IMFileReq)
	}{
		{"no name", 1, func(_ *world, _ *fileStand, m *pb.IMFileReq) { m.SetFileName("") }},
		{"name too long", 1, func(_ *world, _ *fileStand, m *pb.IMFileReq) {
			m.SetFileName(strings.Repeat("x", im.MaxFileName+1))
		}},
		{"no receiver", 1, func(_ *world, _ *fileStand, m *pb.IMFileReq) { m.SetToUserId(0) }},
		{"down", 1, func(_ *world, f *fileStand, _ *pb.IMFileReq) { f.down = true }},
		{"no address", 1, func(*world, *fileStand, *pb.IMFileReq) {}},
		{"none at all", 1, func(*world, *fileStand, *pb.IMFileReq) {}},
		{"link breaks", 1, func(_ *world, f *fileStand, _ *pb.IMFileReq) {
			f.err = im.Errorf(im.Unavailable, "lost")
		}},
		{"server refuses", 2, func(_ *world, f *fileStand, _ *pb.IMFileReq) { f.code = 2 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				var f *fileStand
				switch tc.name {
				case "none at all":
				case "no address":
					f = w.newFileServer("10.0.0.1")
				default:
					f = w.fileServer("10.0.0.1")
				}
				sender, peer := w.user(0, 1, win), w.user(1, 2, win)
				w.route.take()
				sender.got()
				m := fileReq(2, offlineMode)
				tc.change(w, f, m)
				sender.send(3, m)
				rsp := sender.want(pb.CmdFileRsp)[0].m.(*pb.IMFileRsp)
				if rsp.GetResultCode() != tc.code || rsp.GetTaskId() != "" ||
					len(rsp.GetIpAddrList()) != 0 || rsp.GetFromUserId() != 1 {
					t.Errorf("answer %v", rsp)
				}
				w.wantRouted()
				peer.want()
				if n := clientOf(sender.s).passing.Waiting(); n != 0 {
					t.Errorf("%d queries are left open", n)
				}
			})
		})
	}
}

// TestFileServersInTurn: each makes its transfers, with its own addresses; one that
// cannot is passed over.
func TestFileServersInTurn(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		a, b, c := w.fileServer("10.0.0.1"), w.fileServer("10.0.0.2"), w.fileServer("10.0.0.3")
		d := w.user(0, 1, win)
		// ask has a transfer made, and tells by its only address which server made it.
		ask := func(seq uint16) string {
			d.send(seq, fileReq(2, offlineMode))
			rsp := d.want(pb.CmdFileRsp)[0].m.(*pb.IMFileRsp)
			if rsp.GetResultCode() != 0 {
				return ""
			}
			if len(rsp.GetIpAddrList()) != 1 {
				t.Fatalf("addresses %v", rsp.GetIpAddrList())
			}
			return rsp.GetIpAddrList()[0].GetIp()
		}
		for i, want := range []*fileStand{a, b, c, a} {
			if got := ask(uint16(10 + i)); got != want.ip {
				t.Errorf("request %d was for %s, want %s", i, got, want.ip)
			}
		}
		b.err, c.code = im.Errorf(im.Busy, "full"), 2
		for i := range 6 {
			if got := ask(uint16(20 + i)); got != a.ip {
				t.Errorf("request %d was for %s", i, got)
			}
		}
		a.down = true
		if got := ask(30); got != "" {
			t.Errorf("the last request was for %s", got)
		}
	})
}

// TestRoutedFile: what happens on other message servers reaches the pcs here, as it is.
func TestRoutedFile(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone, other := w.user(0, 2, mac), w.user(1, 2, android), w.user(0, 3, win)
		for _, d := range []*device{pc, phone, other} {
			d.got()
		}
		n := fileNotify(1, 2, "x", nil, onlineMode, 0)
		if err := w.h.transfer.HandleRouted(w.route.s, 9, n); err != nil {
			t.Fatal(err)
		}
		same(t, pc.want(pb.CmdFileNotify)[0].m, n)
		phone.want()
		other.want()
	})
}

// TestFileRate: a client that asks too much is refused, with an answer if the command has
// one.
func TestFileRate(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := w.fileServer("10.0.0.1")
		d := w.user(0, 1, win)
		refused := 0
		for i := range int(fileBurst) + 50 {
			d.send(uint16(i), fileReq(2, offlineMode))
			if d.want(pb.CmdFileRsp)[0].m.(*pb.IMFileRsp).GetResultCode() != 0 {
				refused++
			}
		}
		if refused != 50 || len(f.asked) != int(fileBurst) {
			t.Errorf("%d refused, %d asked for", refused, len(f.asked))
		}
		w.db.sent = nil
		d.send(1, addOffline(2, f.task(1)))
		d.send(2, pb.IMFileDelOfflineReq_builder{FromUserId: proto.Uint32(2),
			ToUserId: proto.Uint32(1), TaskId: proto.String(f.task(1))}.Build())
		if len(w.db.sent) != 0 {
			t.Errorf("db_proxy got %v", w.db.sent)
		}
		if n := w.counted("files_refused_total", "rate"); n != 52 {
			t.Errorf("%v counted", n)
		}
	})
}

// TestTransferOfWhoIsGone: a client that does not wait for its answer harms nobody.
func TestTransferOfWhoIsGone(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.fileServer("10.0.0.1")
		d := w.user(0, 1, win)
		w.route.hold = true
		d.send(2, fileReq(2, onlineMode))
		d.on(d.Close)
		w.route.letGo()
		synctest.Wait()
		d.want()
	})
}
