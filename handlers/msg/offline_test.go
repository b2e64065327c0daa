package msg

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

func addOffline(to uint32, task string) *pb.IMFileAddOfflineReq {
	return pb.IMFileAddOfflineReq_builder{FromUserId: proto.Uint32(99), ToUserId: &to,
		TaskId: &task, FileName: proto.String("report.pdf"),
		FileSize: proto.Uint32(1 << 31)}.Build()
}

// TestAddOffline: the file is noted under the sender's own id, then the receiver's pcs
// hear of it.
func TestAddOffline(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := w.ourFileServer("10.0.0.1")
		f.upload(1, 1, 2)
		sender, pc, phone := w.user(0, 1, win), w.user(1, 2, win), w.user(1, 2, ios)
		w.route.take()
		for _, d := range []*device{sender, pc, phone} {
			d.got()
		}
		w.db.sent, w.db.sentKeys = nil, nil
		report := addOffline(2, f.senderTask(1))
		report.SetFileName("another.exe") // name and size are the file server's
		report.SetFileSize(7)
		sender.send(5, report)
		sender.want()
		phone.want()
		notify := fileNotify(1, 2, f.task(1), f.at(), offlineMode, 1)
		same(t, pc.want(pb.CmdFileNotify)[0].m, notify)
		w.wantRouted(notify)
		want := addOffline(2, f.task(1))
		want.SetFromUserId(1)
		if len(w.db.sent) != 1 || w.db.sentKeys[0] != 2 {
			t.Fatalf("db_proxy got %v", w.db.sent)
		}
		same(t, w.db.sent[0], want)

		bad := addOffline(2, "../../etc/passwd")
		sender.send(6, bad)
		bad = addOffline(2, f.task(2))
		bad.SetFileName("")
		sender.send(7, bad)
		sender.send(8, addOffline(0, f.task(2)))
		pc.want()
		if len(w.db.sent) != 1 {
			t.Errorf("db_proxy got %v", w.db.sent[1:])
		}
		if n := w.counted("files_refused_total", "invalid"); n != 3 {
			t.Errorf("%v counted", n)
		}
	})
}

// TestDelOffline: whatever user it names, a client deletes from its own list only. The
// server of the file is told, or all servers if it is not known.
func TestDelOffline(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f, other := w.fileServer("10.0.0.1"), w.fileServer("10.0.0.2")
		other.marked = false
		d := w.user(0, 2, win)
		w.db.sent, w.db.sentKeys = nil, nil
		del := func(to uint32, task string) *pb.IMFileDelOfflineReq {
			return pb.IMFileDelOfflineReq_builder{FromUserId: proto.Uint32(1), ToUserId: &to,
				TaskId: &task}.Build()
		}
		d.send(2, del(77, f.task(1)))
		d.send(3, del(2, "no/task"))
		d.want()
		if len(w.db.sent) != 1 || w.db.sentKeys[0] != 2 {
			t.Fatalf("db_proxy got %v", w.db.sent)
		}
		same(t, w.db.sent[0], del(2, f.task(1)))
		told := f.take()
		if len(told) != 1 || len(other.take()) != 0 {
			t.Fatalf("the file server was told %v, or another was", told)
		}
		same(t, told[0].m, del(2, f.task(1)))

		f.setFull(true) // does not keep the others from being told
		d.send(4, del(77, other.task(1)))
		d.want()
		if told = other.take(); len(told) != 1 || len(w.db.sent) != 2 {
			t.Fatalf("the file server was told %v, db_proxy %v", told, w.db.sent)
		}
		same(t, told[0].m, del(2, other.task(1)))
		if n := w.counted("files_refused_total", "file"); n != 1 {
			t.Errorf("%v counted", n)
		}
	})
}

// offlineFiles answers as db_proxy does, with files of these tasks.
func offlineFiles(tasks ...string) func(pb.Message) (pb.Message, error) {
	return func(req pb.Message) (pb.Message, error) {
		m, ok := req.(*pb.IMFileHasOfflineReq)
		if !ok {
			return nil, nil
		}
		var list []*pb.OfflineFileInfo
		for _, task := range tasks {
			list = append(list, pb.OfflineFileInfo_builder{FromUserId: proto.Uint32(1),
				TaskId: proto.String(task), FileName: proto.String("report.pdf"),
				FileSize: proto.Uint32(1 << 31)}.Build())
		}
		return pb.IMFileHasOfflineRsp_builder{UserId: proto.Uint32(m.GetUserId()),
			OfflineFileList: list, AttachData: []byte("call")}.Build(), nil
	}
}

// wantListed checks an answer about waiting files: which are listed, and the addresses.
func wantListed(t *testing.T, m pb.Message, user uint32, tasks []string, ips ...string) {
	t.Helper()
	rsp := m.(*pb.IMFileHasOfflineRsp)
	var got, at []string
	for _, f := range rsp.GetOfflineFileList() {
		got = append(got, f.GetTaskId())
	}
	for _, a := range rsp.GetIpAddrList() {
		at = append(at, a.GetIp())
	}
	if rsp.GetUserId() != user || rsp.HasAttachData() || fmt.Sprint(got) != fmt.Sprint(tasks) ||
		fmt.Sprint(at) != fmt.Sprint(ips) {
		t.Errorf("answer %v, want transfers %v at %v", rsp, tasks, ips)
	}
}

func TestHasOffline(t *testing.T) {
	req := pb.IMFileHasOfflineReq_builder{UserId: proto.Uint32(99),
		AttachData: []byte("mine")}.Build()
	inWorld(t, Options{}, func(w *world) {
		a := w.fileServer("10.0.0.1")
		d := w.user(0, 2, win)
		a.marked = false // one of the first implementation: ids say nothing
		w.db.also = offlineFiles(a.task(1), a.task(2))
		d.send(4, req)
		got := d.want(pb.CmdFileHasOfflineRsp)
		wantListed(t, got[0].m, 2, []string{a.task(1), a.task(2)}, a.ip)
		if got[0].seq != 4 {
			t.Errorf("answer with seq %d", got[0].seq)
		}
		w.db.also = offlineFiles()
		d.send(5, req)
		wantListed(t, d.want(pb.CmdFileHasOfflineRsp)[0].m, 2, nil, a.ip)
		w.db.also = func(pb.Message) (pb.Message, error) {
			return nil, im.Errorf(im.Unavailable, "lost")
		}
		d.send(6, req)
		d.want() // nothing is made up
	})
}

// TestHasOfflineOfSeveral: every file is told of once, with the addresses of its server
// first.
func TestHasOfflineOfSeveral(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		a, b, old := w.fileServer("10.0.0.1"), w.ourFileServer("10.0.0.2"),
			w.fileServer("10.0.0.3")
		old.marked = false
		d := w.user(0, 2, win)
		b.down = true // its files wait there all the same
		w.db.also = offlineFiles(old.task(1), b.task(1), a.task(1), b.task(2), "not-a-uuid")
		req := pb.IMFileHasOfflineReq_builder{UserId: proto.Uint32(2)}.Build()
		d.send(4, req)
		got := d.want(pb.CmdFileHasOfflineRsp, pb.CmdFileNotify)
		wantListed(t, got[0].m, 2, []string{old.task(1), b.task(1), b.task(2), "not-a-uuid"},
			b.ip, a.ip, old.ip)
		same(t, got[1].m, fileNotify(1, 2, a.task(1), a.at(), offlineMode, 1))
		w.db.also = offlineFiles(old.task(1))
		d.send(5, req)
		wantListed(t, d.want(pb.CmdFileHasOfflineRsp)[0].m, 2, []string{old.task(1)}, a.ip, b.ip,
			old.ip)
		// One that has just come leads to its server, too.
		d.got()
		sender := w.user(1, 1, win)
		b.upload(3, 1, 2)
		sender.send(2, addOffline(2, b.senderTask(3)))
		if at := d.got()[0].m.(*pb.IMFileNotify).GetIpAddrList(); len(at) != 3 ||
			at[0].GetIp() != b.ip {
			t.Errorf("addresses %v", at)
		}
	})
}

// TestFileServerLeaves: a file server that leaves while clients are connected makes no more
// transfers. Its waiting files are found at its addresses, and one that was just uploaded there is
// not confirmed for now. Another one that comes makes transfers at once.
func TestFileServerLeaves(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		sender := w.user(1, 1, win)
		a, b := w.ourFileServer("10.0.0.1"), w.ourFileServer("10.0.0.2")
		ask := func(want ...*fileStand) {
			t.Helper()
			for _, f := range want {
				sender.send(2, fileReq(2, offlineMode))
				rsp := sender.want(pb.CmdFileRsp)[0].m.(*pb.IMFileRsp)
				if len(rsp.GetIpAddrList()) != 1 || rsp.GetIpAddrList()[0].GetIp() != f.ip {
					t.Errorf("a transfer at %v, want %s", rsp.GetIpAddrList(), f.ip)
				}
			}
		}
		ask(a, b)
		w.h.DisconnectFile(a.link)
		a.down, a.err = true, im.Errorf(im.Unavailable, "closed")
		ask(b, b)

		receiver := w.user(0, 2, win)
		w.db.also = offlineFiles(a.task(1), a.task(2))
		req := pb.IMFileHasOfflineReq_builder{UserId: proto.Uint32(2)}.Build()
		receiver.send(4, req)
		wantListed(t, receiver.want(pb.CmdFileHasOfflineRsp)[0].m, 2,
			[]string{a.task(1), a.task(2)}, a.ip, b.ip)
		w.db.also = offlineFiles()
		receiver.send(5, req)
		wantListed(t, receiver.want(pb.CmdFileHasOfflineRsp)[0].m, 2, nil, b.ip)
		sender.send(3, addOffline(2, a.senderTask(1)))
		receiver.want()
		if n := w.counted("files_refused_total", "file"); n != 1 {
			t.Errorf("%v counted as not reached", n)
		}

		again := w.ourFileServer(a.ip)
		ask(b, again)
		receiver.got()
		again.upload(1, 1, 2)
		sender.send(3, addOffline(2, again.senderTask(1)))
		told := receiver.want(pb.CmdFileNotify)[0].m.(*pb.IMFileNotify)
		if at := told.GetIpAddrList(); len(at) == 0 || at[0].GetIp() != a.ip {
			t.Errorf("addresses %v", at)
		}
		for i := range 100 { // those that left are not remembered for ever
			f := w.fileServer(fmt.Sprintf("10.0.1.%d", i))
			w.h.DisconnectFile(f.link)
		}
		w.db.also = offlineFiles(im.MarkTask(b.task(1), im.ServerMark("10.0.1.0", 8600)))
		receiver.send(6, req)
		got := receiver.want(pb.CmdFileHasOfflineRsp)[0].m.(*pb.IMFileHasOfflineRsp)
		if len(got.GetIpAddrList()) != 2 {
			t.Errorf("addresses %v, want those of two servers", got.GetIpAddrList())
		}
	})
}
