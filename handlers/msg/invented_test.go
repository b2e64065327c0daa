package msg

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// wantNotListed fails when a report of a file had an effect.
func (w *world) wantNotListed(what string, receiver *device) {
	w.t.Helper()
	if len(w.db.sent) != 0 {
		w.t.Errorf("%s: db_proxy got %v", what, w.db.sent)
		w.db.sent = nil
	}
	if got := receiver.got(); len(got) != 0 {
		w.t.Errorf("%s: the receiver got %v", what, got)
	}
	if got := w.route.take(); len(got) != 0 {
		w.t.Errorf("%s: the route server got %v", what, got)
	}
}

// TestInventedFiles: a file is listed only when a file server has it, for this sender and
// this receiver.
func TestInventedFiles(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f, other := w.ourFileServer("10.0.0.1"), w.ourFileServer("10.0.0.2")
		f.upload(1, 1, 3)
		f.upload(2, 4, 2)
		sender, receiver := w.user(0, 1, win), w.user(1, 2, win)
		sender.got()
		receiver.got()
		w.route.take()
		w.db.sent = nil
		for what, task := range map[string]string{
			"an invented id":                        f.senderTask(9),
			"an invented id of no server":           "6bd466b8-85bd-4ec3-94a6-000000000001",
			"an id that is no UUID":                 "a",
			"a file of the sender for another user": f.senderTask(1),
			"a file of another user":                f.senderTask(2),
		} {
			sender.send(5, addOffline(2, task))
			w.wantNotListed(what, receiver)
		}
		if n := w.counted("files_refused_total", "unconfirmed"); n != 5 {
			t.Errorf("%v counted", n)
		}
		f.upload(3, 1, 2)
		f.err = im.Errorf(im.Unavailable, "lost")
		sender.send(5, addOffline(2, f.senderTask(3)))
		w.wantNotListed("its server cannot be asked", receiver)
		if n := w.counted("files_refused_total", "file"); n != 1 {
			t.Errorf("%v counted", n)
		}
		// An id from an earlier address of a server leads to none, so that all are asked.
		f.err, other.marked = nil, false
		other.upload(4, 1, 2)
		sender.send(5, addOffline(2, other.senderTask(4)))
		if len(w.db.sent) != 1 || len(receiver.got()) != 1 {
			t.Errorf("db_proxy got %v", w.db.sent)
		}
	})
}

// TestHandedOutFiles: a file server of the first implementation cannot confirm a file. The
// message server lists the tasks that it handed out to the sender for this receiver.
func TestHandedOutFiles(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		f := w.fileServer("10.0.0.1")
		f.marked = false
		sender, receiver := w.user(0, 1, win), w.user(1, 2, win)
		sender.send(1, fileReq(2, offlineMode))
		sender.got()
		receiver.got()
		w.route.take()
		w.db.sent = nil
		sender.send(5, addOffline(3, f.task(1)))
		w.wantNotListed("another receiver", receiver)
		sender.send(5, addOffline(2, f.task(2)))
		w.wantNotListed("an invented id", receiver)
		other := w.user(0, 3, win)
		w.route.take()
		other.send(5, addOffline(2, f.task(1)))
		w.wantNotListed("another sender", receiver)

		report := addOffline(2, f.task(1))
		report.SetFileName("another.exe")
		sender.send(5, report)
		same(t, receiver.want(pb.CmdFileNotify)[0].m,
			fileNotify(1, 2, f.task(1), f.at(), offlineMode, 1))
		if len(w.db.sent) != 1 {
			t.Fatalf("db_proxy got %v", w.db.sent)
		}
		want := addOffline(2, f.task(1))
		want.SetFromUserId(1)
		same(t, w.db.sent[0], want)
	})
}

// TestFileNamesAreCleaned: receivers are told clean names, in every command with a name.
func TestFileNamesAreCleaned(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		const unsafe, clean = "../../fdp.\u202eexe\n", "fdp.exe"
		f := w.fileServer("10.0.0.1")
		sender, receiver := w.user(0, 1, win), w.user(1, 2, win)
		sender.got()
		receiver.got()
		m := fileReq(2, offlineMode)
		m.SetFileName(unsafe)
		sender.send(1, m)
		// The sender finds its file by the name that it sent.
		rsp := sender.want(pb.CmdFileRsp)[0].m.(*pb.IMFileRsp)
		if rsp.GetFileName() != unsafe || f.asked[0].GetFileName() != clean {
			t.Errorf("the sender was told %q, the server %q", rsp.GetFileName(),
				f.asked[0].GetFileName())
		}
		told := func(what string) {
			t.Helper()
			n := receiver.want(pb.CmdFileNotify)[0].m.(*pb.IMFileNotify)
			if n.GetFileName() != clean {
				t.Errorf("%s: the receiver was told %q", what, n.GetFileName())
			}
		}
		told("a transfer")
		w.db.sent = nil
		report := addOffline(2, f.task(1))
		report.SetFileName(unsafe)
		sender.send(2, report)
		told("an upload")
		if n := w.db.sent[0].(*pb.IMFileAddOfflineReq).GetFileName(); n != clean {
			t.Errorf("db_proxy was told %q", n)
		}
		routed := fileNotify(1, 2, "x", nil, onlineMode, 0)
		routed.SetFileName(unsafe)
		if err := w.h.transfer.HandleRouted(w.route.s, 9, routed); err != nil {
			t.Fatal(err)
		}
		told("another message server")
		w.db.also = func(req pb.Message) (pb.Message, error) {
			m, ok := req.(*pb.IMFileHasOfflineReq)
			if !ok {
				return nil, nil
			}
			return pb.IMFileHasOfflineRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				OfflineFileList: []*pb.OfflineFileInfo{pb.OfflineFileInfo_builder{
					FromUserId: proto.Uint32(1), TaskId: proto.String("x"),
					FileName: proto.String(unsafe), FileSize: proto.Uint32(1)}.Build()},
				AttachData: []byte("call")}.Build(), nil
		}
		receiver.send(3, pb.IMFileHasOfflineReq_builder{UserId: proto.Uint32(2)}.Build())
		list := receiver.want(pb.CmdFileHasOfflineRsp)[0].m.(*pb.IMFileHasOfflineRsp)
		if n := list.GetOfflineFileList()[0].GetFileName(); n != clean {
			t.Errorf("the list has %q", n)
		}
	})
}
